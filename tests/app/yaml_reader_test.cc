// Values from the command line: what a shell hands on is not always what YAML makes of it.
#include "molt/app/yaml_reader.h"

#include <gtest/gtest.h>

#include "molt/base/error.h"

namespace molt::app {
namespace {

template <class F>
void expect_usage_error(F&& f, const std::vector<std::string>& parts) {
  try {
    f();
    ADD_FAILURE() << "no UsageError";
  } catch (const UsageError& error) {
    const std::string text = error.what();
    for (const std::string& part : parts) EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
  }
}

struct Section {
  std::string prompt = "";
  int64_t limit = 0;
  template <class V>
  void visit(V& v) {
    v.field("prompt", prompt, "");
    v.field("limit", limit, "");
  }
};

Section after(const std::string& assignment, const std::string& yaml = "{}") {
  YamlNode root = YamlNode::parse(yaml, "r.yaml");
  if (!assignment.empty()) root.apply(assignment);
  Section section;
  YamlReader reader(root);
  section.visit(reader);
  reader.finish();
  return section;
}

TEST(YamlOverride, TextIsWhatWasTyped) {
  // Each of these is a map, a comment or no YAML at all.
  for (const char* text :
       {"{question}", "{question}\\n=> ", " {a} {b}", "{a} | {b}: ", "Q: {a}", "Q: {a} A: ", "###", "# a", "{a}, b"})
    EXPECT_EQ(after(std::string("prompt=") + text).prompt, text);
  EXPECT_EQ(after("prompt=\"{a}\\n\"").prompt, "{a}\n") << "quotes are YAML's";
  EXPECT_EQ(after("prompt=plain words").prompt, "plain words");
  EXPECT_EQ(after("prompt=").prompt, "");
}

TEST(YamlOverride, OtherKindsStayStrict) {
  expect_usage_error([] { after("limit={a}"); }, {"override 'limit={a}'", "a whole number", "a map"});
  expect_usage_error([] { after("limit=Q: {a} A: "); }, {"a whole number", "'Q: {a} A: '"});
  expect_usage_error([] { after("prompt={a"); }, {"override 'prompt={a'", "not valid YAML"});
}

TEST(YamlFile, UnquotedTemplateIsTold) {
  expect_usage_error([] { after("", "limit: 1\nprompt: {question}"); }, {"r.yaml:2: prompt", "text", "in quotes"});
}

}  // namespace
}  // namespace molt::app
