#include "molt/eval/classify.h"

#include <gtest/gtest.h>

#include "tests/eval/toy.h"

namespace molt::eval {
namespace {

using namespace testing;

// Expected values by hand; 3 classes, one prediction outside.
TEST(ClassScores, OfThreeClassesByHand) {
  const ClassScores s = class_scores({0, 0, 0, 1, 1, 2}, {0, 0, 1, 1, kOutside, 0}, 3);
  EXPECT_EQ(s.correct, 3);
  EXPECT_DOUBLE_EQ(s.accuracy, 0.5);
  // tp 2, 1, 0; predicted 3, 2, 0 (outside 1); expected 3, 2, 1.
  EXPECT_NEAR(s.f1_macro, (2 * 2 / 6.0 + 2 * 1 / 4.0 + 0) / 3, 1e-15);
  EXPECT_FALSE(s.f1_binary.has_value());
  // c s - Σ p t = 18 - (9 + 4) = 5; s² - Σ p² = 36 - 14 = 22; s² - Σ t² = 36 - 14 = 22.
  EXPECT_NEAR(s.matthews, 5 / 22.0, 1e-15);
}

TEST(ClassScores, OfTwoClassesByHand) {
  // tp 3, tn 2, fp 1, fn 2.
  const ClassScores s = class_scores({1, 1, 1, 0, 0, 0, 1, 1}, {1, 1, 1, 0, 0, 1, 0, 0}, 2);
  EXPECT_NEAR(*s.f1_binary, 6.0 / 9, 1e-15);
  EXPECT_NEAR(s.f1_macro, (6.0 / 9 + 4.0 / 7) / 2, 1e-15);
  EXPECT_NEAR(s.matthews, (3 * 2 - 1 * 2) / std::sqrt((3. + 1) * (3 + 2) * (2 + 1) * (2 + 2)), 1e-15);
  EXPECT_DOUBLE_EQ(s.accuracy, 5 / 8.0);
}

TEST(ClassScores, OneSidedPredictionsHaveNoCorrelation) {
  EXPECT_EQ(class_scores({0, 1, 1}, {1, 1, 1}, 2).matthews, 0);
  EXPECT_EQ(class_scores({0, 1}, {0, 1}, 2).matthews, 1);
  EXPECT_EQ(class_scores({0, 1}, {1, 0}, 2).matthews, -1);
  EXPECT_EQ(class_scores({}, {}, 2).accuracy, 0);
  // A class nobody expected or predicted does not count towards the mean.
  EXPECT_EQ(class_scores({0, 1}, {0, 1}, 5).f1_macro, 1);
}

TEST(Classify, ScoresAreTheProbabilitiesOfTheTokens) {
  const auto model = toy_model(11);
  const auto prompts = toy_prompts(9, 11);
  const std::vector<Ids> classes = {{3}, {5, 1}, {5, 2, 7, 0}, {8}};
  for (const int64_t batch : {1, 4, 32}) {
    for (const int64_t rows : {3, 1000}) {
      const auto predictions = classify({*model}, prompts, classes, {.rows = rows, .batch_size = batch});
      ASSERT_EQ(predictions.size(), prompts.size());
      for (size_t i = 0; i < prompts.size(); ++i) {
        std::vector<double> expected;
        for (const Ids& ids : classes) expected.push_back(log_prob(*model, prompts[i], ids));
        for (size_t k = 0; k < classes.size(); ++k) EXPECT_NEAR(predictions[i].log_probs[k], expected[k], 1e-10);
        EXPECT_EQ(predictions[i].best, std::max_element(expected.begin(), expected.end()) - expected.begin());
      }
    }
  }
}

TEST(Classify, FreeIsWhatGreedyDecodingSays) {
  const auto model = toy_model(11);
  int inside = 0, outside = 0, longer = 0;
  for (const Ids& prompt : toy_prompts(20, 11)) {
    const Ids said = greedy(*model, prompt, 2);
    // Class 1 begins as class 0 does and is what the model says; class 2 is never said.
    const std::vector<Ids> classes = {{said[0]}, said, {said[0], (said[1] + 1) % 11}};
    EXPECT_EQ(classify({*model}, {prompt}, classes)[0].free, 1);
    ++longer;
    const std::vector<Ids> fixed = {{2}, {3}, {4}, {5}, {6}};
    const ClassPrediction p = classify({*model}, {prompt}, fixed)[0];
    const bool is_class = said[0] >= 2 && said[0] <= 6;
    EXPECT_EQ(p.free, is_class ? said[0] - 2 : kOutside);
    EXPECT_TRUE(!is_class || p.best == p.free);
    ++(is_class ? inside : outside);
  }
  EXPECT_GT(inside, 0);
  EXPECT_GT(outside, 0);
}

TEST(Classify, WhatIsNoClassIsWrongButCounted) {
  const auto model = toy_model(11);
  const data::LabelSet labels{{"no", "yes"}, {{2}, {3}}};
  std::vector<data::EvalExample> questions;
  const auto prompts = toy_prompts(30, 11);
  int64_t outside = 0, restricted = 0, free = 0;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const int32_t expected = static_cast<int32_t>(i % 2);
    questions.push_back({prompts[i], "", {labels.names[i % 2]}, "here"});
    const auto p = next_log_probs(*model, prompts[i]);
    restricted += (p[3] > p[2]) == (expected == 1);
    const int32_t said = greedy(*model, prompts[i], 1)[0];
    outside += said != 2 && said != 3;
    free += said == expected + 2;
  }
  const Classification c = evaluate_classes({*model}, questions, labels);
  EXPECT_GT(outside, 0);
  EXPECT_EQ(c.outside, outside);
  EXPECT_EQ(c.free.examples, 30);
  EXPECT_EQ(c.free.correct, free);
  EXPECT_EQ(c.restricted.correct, restricted);
}

TEST(Classify, RefusesWhatItCannotDo) {
  const auto model = toy_model(11);
  auto message = [&](const std::vector<Ids>& prompts, const std::vector<Ids>& classes) {
    return usage_message([&] { classify({*model}, prompts, classes); });
  };
  EXPECT_NE(message({{}}, {{1}}).find("no tokens"), std::string::npos);
  EXPECT_NE(message({{1}}, {}).find("no class"), std::string::npos);
  EXPECT_NE(message({{1}}, {{1}, {}}).find("class 1 has no tokens"), std::string::npos);
  EXPECT_NE(message({{1}}, {{99}}).find("token id 99"), std::string::npos);
  const data::LabelSet labels{{"no", "yes"}, {{2}, {3}}};
  const auto unknown = usage_message([&] { evaluate_classes({*model}, {{{1}, "", {"maybe"}, "f:3"}}, labels); });
  EXPECT_NE(unknown.find("f:3"), std::string::npos);
  EXPECT_NE(unknown.find("maybe"), std::string::npos);
}

}  // namespace
}  // namespace molt::eval
