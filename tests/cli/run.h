// Runs the program as a user would and keeps what it printed.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

namespace molt::test {

struct Ran {
  int code = -1;
  std::string out, err;
};

/// `molt ARGUMENTS` through the shell, in the repository's root.
inline Ran run_molt(const std::string& arguments) {
  namespace fs = std::filesystem;
  static int count = 0;
  const fs::path err =
      fs::temp_directory_path() / ("molt_cli_" + std::to_string(::getpid()) + "_" + std::to_string(++count) + ".err");
  const std::string command =
      "cd '" MOLT_SOURCE_DIR "' && '" MOLT_BINARY "' " + arguments + " 2>'" + err.string() + "'";
  FILE* pipe = ::popen(command.c_str(), "r");
  if (!pipe) throw std::runtime_error("popen failed: " + command);
  Ran ran;
  char buffer[4096];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) ran.out.append(buffer, n);
  const int status = ::pclose(pipe);
  ran.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  std::ifstream in(err);
  std::stringstream text;
  text << in.rdbuf();
  ran.err = text.str();
  fs::remove(err);
  return ran;
}

/// For EXPECT_TRUE: whether a text holds a part; prints the text where it does not.
inline ::testing::AssertionResult has(const std::string& text, const std::string& part) {
  if (text.find(part) != std::string::npos) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "'" << part << "' is not in:\n" << text;
}

/// Lines of a text.
inline int line_count(const std::string& text) {
  int lines = 0;
  for (const char c : text) lines += c == '\n';
  return lines;
}

}  // namespace molt::test
