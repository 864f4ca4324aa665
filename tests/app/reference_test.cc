// docs/reference.md is what the program would write, and says what the structs say.
#include "molt/app/reference.h"

#include "molt/app/recipe.h"

#include <gtest/gtest.h>

#include "molt/app/methods.h"
#include "molt/base/error.h"
#include "molt/base/file.h"

namespace molt::app {
namespace {

TEST(Reference, TheCommittedPageIsCurrent) {
  EXPECT_EQ(read_file(MOLT_SOURCE_DIR "/docs/reference.md"), reference_page())
      << "write it anew: build/molt reference > docs/reference.md";
}

TEST(Reference, HoldsEveryKeyOfEveryStruct) {
  const std::string page = reference_page();
  for (const char* row :
       {"| `learning_rate` | float | `0.001` | peak learning rate of AdamW |",
        "| `lora_alpha` | float | `8` | scale is lora_alpha / r |",
        "| `target_modules` | list of strings | `[in_proj, x_proj, out_proj]` |", "| `limit` | int | `none` |",
        "## `evaluation.generate:`", "| `metric` | string | `loss` | loss \\| exact_match \\| accuracy"})
    EXPECT_NE(page.find(row), std::string::npos) << row;
  // Training keys stand in their own table only.
  EXPECT_EQ(page.find("| `max_steps` |"), page.rfind("| `max_steps` |"));
}

TEST(Reference, OptionsAsResolvedCanBeReadAgain) {
  const auto entries = read_methods(YamlNode::parse("[{lora: {r: 3, target_modules: ['x_proj:B']}}, sdt]", "test"));
  OrderedJson list = OrderedJson::array();
  for (const MethodEntry& entry : entries) list.push_back({{entry.name, resolved_options(entry)}});
  const auto again = read_methods(YamlNode::parse(list.dump(), "resolved"));
  ASSERT_EQ(again.size(), 2u);
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ(resolved_options(again[i]), resolved_options(entries[i]));
  EXPECT_EQ(resolved_options(again[0])["r"], 3);
  EXPECT_EQ(resolved_options(again[1])["warmup_steps"], 500);
}

TEST(Reference, OptionsThatAreNoMapAreRefused) {
  EXPECT_THROW(read_methods(YamlNode::parse("{lora: 8}", "test")), UsageError);
  EXPECT_EQ(read_methods(YamlNode::parse("{sdt: }", "test")).size(), 1u);
}

TEST(Recipe, MethodAndMethodsAreOneKey) {
  const auto names = [](const char* yaml) {
    std::vector<std::string> result;
    for (const MethodEntry& entry : Recipe::from(YamlNode::parse(yaml, "test"), "test").methods)
      result.push_back(entry.name);
    return result;
  };
  const std::vector<std::string> both = {"lora", "sdt"};
  EXPECT_EQ(names("{model: m, method: [{lora: {r: 4}}, sdt]}"), both);
  EXPECT_EQ(names("{model: m, methods: [{lora: {r: 4}}, sdt]}"), both);
  EXPECT_THROW(names("{model: m, method: lora, methods: [sdt]}"), UsageError);
}

}  // namespace
}  // namespace molt::app
