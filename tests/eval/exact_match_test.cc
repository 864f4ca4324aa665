#include "molt/eval/exact_match.h"

#include <gtest/gtest.h>

#include "tests/eval/toy.h"

namespace molt::eval {
namespace {

using namespace testing;

constexpr int32_t kVocabulary = 11;

/// Token 0 is a space, token 1 a line break, the others letters.
std::string spell(const Ids& ids) {
  std::string text;
  for (const int32_t id : ids) text += id == 0 ? ' ' : id == 1 ? '\n' : static_cast<char>('a' + id - 2);
  return text;
}

TEST(ExactMatch, ComparesWhatWasSaid) {
  const auto model = toy_model(kVocabulary);
  const auto prompts = toy_prompts(6, kVocabulary);
  AnswerOptions options{.generate = {.max_new_tokens = 6}};
  std::vector<data::EvalExample> questions;
  for (size_t i = 0; i < prompts.size(); ++i) {
    std::string said = trimmed(spell(greedy(*model, prompts[i], 6)));
    if (said.empty()) said = " ";
    std::string shouted = said;
    for (char& c : shouted) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    const std::string expected = i < 3 ? " " + said + "\n" : i == 3 ? shouted : said + "x";
    questions.push_back({prompts[i], "?", {"something else", expected}, "here"});
  }
  int64_t last = 0;
  auto answers = answer({*model}, questions, spell, options, [&](int64_t done, int64_t) { last = done; });
  EXPECT_EQ(last, 6);
  for (size_t i = 0; i < answers.size(); ++i) {
    EXPECT_EQ(answers[i].generated, trimmed(spell(greedy(*model, prompts[i], 6))));
    EXPECT_EQ(answers[i].right, i < 3) << answers[i].generated;
    EXPECT_TRUE(answers[i].cut);
  }
  EXPECT_DOUBLE_EQ(exact_match(answers), 0.5);
  options.ignore_case = true;
  EXPECT_DOUBLE_EQ(exact_match(answer({*model}, questions, spell, options)), 4 / 6.0);
  EXPECT_EQ(exact_match({}), 0);
}

TEST(ExactMatch, OneLineEndsAtTheFirstBreakAfterAWord) {
  int lines = 0, after_break = 0;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    const auto model = toy_model(kVocabulary, seed);
    for (const int64_t beams : {1, 2}) {
      const AnswerOptions options{.generate = {.max_new_tokens = 8, .num_beams = beams}, .one_line = true};
      for (const Ids& prompt : toy_prompts(6, kVocabulary)) {
        const std::string text = spell(generate({*model}, {prompt}, options.generate)[0]);
        const size_t begin = std::min(text.find_first_not_of(" \n"), text.size());
        const size_t end = text.find('\n', begin);
        const Answer a = answer({*model}, {{prompt, "", {"x"}, ""}}, spell, options)[0];
        EXPECT_EQ(a.generated, trimmed(text.substr(begin, end == std::string::npos ? end : end - begin)));
        EXPECT_EQ(a.cut, end == std::string::npos);
        lines += end != std::string::npos;
        after_break += end != std::string::npos && begin > 0 && text[begin - 1] == '\n';
      }
    }
  }
  EXPECT_GT(lines, 3);
  EXPECT_GT(after_break, 0);  // breaks before the first word do not end an answer
}

}  // namespace
}  // namespace molt::eval
