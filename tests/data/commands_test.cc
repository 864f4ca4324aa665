// The bundled task: its files say what its README promises, and load as a recipe would load them.
#include <set>

#include "molt/data/load.h"
#include "tests/data/helpers.h"

namespace molt::data {
namespace {

TEST(Commands, AreWhatTheReadmeSays) {
  const std::string root = MOLT_SOURCE_DIR "/examples/commands/";
  DataConfig c;
  c.train = {root + "train.jsonl"}, c.validation = {root + "validation.jsonl"}, c.test = {root + "test.jsonl"};
  const Data d = load_data(c, testing::toy_encoder());
  EXPECT_EQ(d.train->size(), 1500);
  EXPECT_EQ(d.validation->size(), 200);
  EXPECT_EQ(d.test->size(), 300);
  std::set<std::string> prompts, trained, commands;
  size_t fresh = 0, letters = 0;
  for (const auto* part : {&d.train_examples, &d.validation_examples, &d.test_examples})
    for (const Example& e : *part) {
      EXPECT_TRUE(prompts.insert(e.prompt).second) << e.prompt;
      EXPECT_LE(e.prompt.size(), 100u) << e.prompt;
      EXPECT_LE(e.completion.size(), 45u) << e.completion;
      EXPECT_EQ(e.prompt.substr(e.prompt.size() - 4), "\n=> ");
      commands.insert(e.completion.substr(0, e.completion.find(' ')));
      letters += e.completion.size();
      if (part == &d.train_examples) trained.insert(e.completion);
      if (part == &d.test_examples) fresh += !trained.count(e.completion);
    }
  EXPECT_EQ(commands.size(), 26u);
  EXPECT_NEAR(static_cast<double>(fresh) / 300, 0.5, 0.05);
  EXPECT_NEAR(static_cast<double>(letters) / 2000, 26, 1);
}

}  // namespace
}  // namespace molt::data
