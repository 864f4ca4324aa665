// molt doctor: every line has a verdict; what is wrong shows.
#include <gtest/gtest.h>

#include <sstream>

#include "tests/cli/tiny.h"

namespace molt::test {
namespace {

TEST(Doctor, EveryLineHasAVerdict) {
  const Ran ran = run_molt("doctor --quick");
  std::istringstream lines(ran.out);
  int findings = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::string word = line.substr(0, line.find(' '));
    EXPECT_TRUE(word == "ok" || word == "note" || word == "problem" || word.empty()) << line;
    findings += !word.empty();
  }
  EXPECT_EQ(findings, 9) << ran.out;
  for (const char* name :
       {"processor", "products", "threads", "load", "memory", "huge pages", "backends", "runs", "self-check"})
    EXPECT_TRUE(has(ran.out, std::string("  ") + name)) << name;
}

TEST(Doctor, Measures) {
  const Ran ran = run_molt("doctor");
  EXPECT_TRUE(has(ran.out, "FLOP/s forward"));
  EXPECT_TRUE(has(ran.out, "B/s read and written"));
}

TEST(Doctor, APlaceThatCannotHoldRunsIsAProblem) {
  // Below a file there can be no directory, whoever asks.
  const std::string file = scratch().write("a_file", "x");
  const Ran ran = run_molt("doctor --quick --output-dir " + file + "/runs");
  EXPECT_EQ(ran.code, 1);
  EXPECT_TRUE(has(ran.out, "cannot be written to"));
}

}  // namespace
}  // namespace molt::test
