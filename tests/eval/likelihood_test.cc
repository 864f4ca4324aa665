#include "molt/eval/perplexity.h"

#include <gtest/gtest.h>

#include "molt/eval/spans.h"
#include "tests/eval/toy.h"

namespace molt::eval {
namespace {

using namespace testing;

/// Token sequences; each row predicts the next token, from row `first` on.
class Sequences final : public data::Source {
 public:
  explicit Sequences(std::vector<Ids> all, size_t first = 0) : all_(std::move(all)), first_(first) {}
  int64_t size() const override { return static_cast<int64_t>(all_.size()); }
  int64_t rows(int64_t i) const override { return static_cast<int64_t>(all_[static_cast<size_t>(i)].size()) - 1; }
  void append(int64_t i, int64_t reserve, data::Batch& batch) const override {
    const Ids& ids = all_[static_cast<size_t>(i)];
    for (int64_t r = 0; r < reserve; ++r) batch.push(0, data::kIgnored);
    for (size_t t = 0; t + 1 < ids.size(); ++t) batch.push(ids[t], t < first_ ? data::kIgnored : ids[t + 1]);
    batch.close(i);
  }
  std::string where(int64_t) const override { return "here"; }
  uint64_t fingerprint() const override { return 0; }

 private:
  std::vector<Ids> all_;
  size_t first_;
};

TEST(Spans, PackWholeSegmentsAndCutLongOnes) {
  const auto spans = plan_spans(Segments({0, 2, 5, 5, 17, 18, 22}), 5);
  struct Expected {
    int64_t first, count, begin, rows;
    bool starts, ends;
  };
  const std::vector<Expected> expected = {{0, 3, 0, 5, true, true},
                                          {3, 1, 5, 5, true, false},
                                          {3, 1, 10, 5, false, false},
                                          {3, 1, 15, 2, false, true},
                                          {4, 2, 17, 5, true, true}};
  ASSERT_EQ(spans.size(), expected.size());
  for (size_t i = 0; i < spans.size(); ++i) {
    EXPECT_EQ(spans[i].first_segment, expected[i].first) << i;
    EXPECT_EQ(spans[i].count, expected[i].count) << i;
    EXPECT_EQ(spans[i].begin, expected[i].begin) << i;
    EXPECT_EQ(spans[i].rows, expected[i].rows) << i;
    EXPECT_EQ(spans[i].starts, expected[i].starts) << i;
    EXPECT_EQ(spans[i].ends, expected[i].ends) << i;
  }
}

TEST(Spans, PrefillInChunksLeadsToTheSamePlace) {
  const auto model = toy_model(11);
  const auto prompts = toy_prompts(7, 11, 20);
  const Prefilled whole = prefill({*model}, prompts, 1000, true);
  for (const int64_t rows : {1, 2, 5, 11}) {
    const Prefilled parts = prefill({*model}, prompts, rows, true);
    auto near = [](const Tensor& a, const Tensor& b) {
      ASSERT_EQ(a.shape(), b.shape());
      const auto x = a.values(), y = b.values();
      for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], y[i], 1e-10);
    };
    near(parts.logits, whole.logits);
    for (size_t layer = 0; layer < whole.carry.size(); ++layer) {
      near(parts.carry[layer].conv.value(), whole.carry[layer].conv.value());
      near(parts.carry[layer].ssm.value(), whole.carry[layer].ssm.value());
    }
  }
}

TEST(Spans, WhatAllPromptsBeginWithIsReadOnceToTheSameEnd) {
  const auto model = toy_model(11);
  const Ids prefix = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3};
  std::vector<Ids> prompts = toy_prompts(5, 11);
  for (Ids& prompt : prompts) prompt.insert(prompt.begin(), prefix.begin(), prefix.end());
  prompts.push_back(prefix);  // nothing of its own but the last token
  for (const int64_t rows : {4, 1000}) {
    const Prefilled together = prefill({*model}, prompts, rows, true);
    for (size_t i = 0; i < prompts.size(); ++i) {
      const Prefilled alone = prefill({*model}, {prompts[i]}, 1000, true);
      const auto x = together.logits.row_range(static_cast<int64_t>(i), 1).values(), y = alone.logits.values();
      for (size_t v = 0; v < x.size(); ++v) ASSERT_NEAR(x[v], y[v], 1e-10);
      const auto a = together.carry[1].ssm.value().row_range(static_cast<int64_t>(i), 1).values();
      const auto b = alone.carry[1].ssm.value().values();
      for (size_t k = 0; k < a.size(); ++k) ASSERT_NEAR(a[k], b[k], 1e-10);
    }
  }
}

TEST(Likelihood, IsTheSumOverLabelledTokensWhateverTheRows) {
  const auto model = toy_model(11);
  std::vector<Ids> all = toy_prompts(9, 11, 20);
  for (Ids& ids : all) ids.push_back(3);
  constexpr size_t kFirst = 2;
  double nll = 0;
  int64_t tokens = 0, correct = 0;
  for (const Ids& ids : all) {
    for (size_t t = kFirst; t + 1 < ids.size(); ++t) {
      const Ids before(ids.begin(), ids.begin() + static_cast<int64_t>(t) + 1);
      nll -= next_log_probs(*model, before)[static_cast<size_t>(ids[t + 1])];
      correct += greedy(*model, before, 1)[0] == ids[t + 1];
      ++tokens;
    }
  }
  const Sequences source(all, kFirst);
  for (const int64_t rows : {1, 7, 30, 1000}) {
    int64_t last = 0;
    const Likelihood l =
        likelihood({*model}, source, {.rows = rows, .count_correct = true}, [&](int64_t done, int64_t total) {
          EXPECT_GT(done, last);
          EXPECT_EQ(total, 9);
          last = done;
        });
    EXPECT_EQ(last, 9);
    EXPECT_NEAR(l.nll, nll, 1e-9);
    EXPECT_EQ(l.tokens, tokens);
    EXPECT_EQ(l.correct, correct);
    EXPECT_NEAR(l.perplexity(), std::exp(nll / static_cast<double>(tokens)), 1e-9);
  }
}

TEST(Likelihood, OfTheFirstSamplesOnly) {
  const auto model = toy_model(11);
  const std::vector<Ids> all = {{1, 2, 3}, {4, 5}, {6, 7, 8, 9}};
  const Likelihood two = likelihood({*model}, Sequences(all), {.most_samples = 2});
  const double expected = log_prob(*model, {1}, {2, 3}) + log_prob(*model, {4}, {5});
  EXPECT_EQ(two.tokens, 3);
  EXPECT_NEAR(two.nll, -expected, 1e-10);
  EXPECT_NE(usage_message([&] { likelihood({*model}, Sequences({})); }).find("no example"), std::string::npos);
}

}  // namespace
}  // namespace molt::eval
