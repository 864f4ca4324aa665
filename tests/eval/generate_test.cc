#include "molt/eval/generate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "molt/eval/search.h"
#include "tests/eval/toy.h"

namespace molt::eval {
namespace {

using namespace testing;

TEST(Generate, GreedyIsWhatAPassOverEverythingSays) {
  const auto model = toy_model(11);
  const auto prompts = toy_prompts(5, 11);
  const auto results = generate({*model}, prompts, {.max_new_tokens = 9});
  for (size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(results[i], greedy(*model, prompts[i], 9)) << i;
}

TEST(Generate, BatchAndChunksChangeNothing) {
  const auto model = toy_model(11);
  const auto prompts = toy_prompts(13, 11);
  for (const double temperature : {0.0, 1.0}) {
    for (const int64_t beams : {1, 3}) {
      if (temperature > 0 && beams > 1) continue;
      GenerateConfig config{.max_new_tokens = 8, .temperature = temperature, .num_beams = beams};
      const auto endless = generate({*model}, prompts, config);
      config.stop_ids = {endless[0][2], endless[1][5]};  // sequences end at different times
      const auto together = generate({*model}, prompts, config);
      bool differ = false;
      for (const auto& r : together) differ = differ || r.size() != together[0].size();
      EXPECT_TRUE(differ) << "every sequence has the same length, so none left the batch early";

      for (const int64_t batch : {1, 2, 5, 7}) {
        for (const int64_t rows : {1, 3, 8, 20}) {
          GenerateConfig other = config;
          other.batch_size = batch * beams, other.prefill_rows = rows;
          EXPECT_EQ(generate({*model}, prompts, other), together) << batch << " at a time, " << rows << " rows";
        }
      }
    }
  }
}

TEST(Generate, StopTokensEndAndAreLeftOut) {
  const auto model = toy_model(11);
  for (const Ids& prompt : toy_prompts(6, 11)) {
    const Ids free = greedy(*model, prompt, 10);
    for (const int32_t stop : {free[0], free[4], free[9]}) {
      GenerateConfig config{.max_new_tokens = 10};
      config.stop_ids = {stop};
      const Ids expected(free.begin(), std::find(free.begin(), free.end(), stop));
      EXPECT_EQ(generate({*model}, {prompt}, config)[0], expected);
    }
  }
}

TEST(Generate, TellsEachTokenAndObeys) {
  const auto model = toy_model(11);
  const auto prompts = toy_prompts(4, 11);
  for (const int64_t beams : {1, 2}) {
    const GenerateConfig config{.max_new_tokens = 7, .num_beams = beams};
    std::map<int64_t, Ids> told;
    std::vector<int64_t> done;
    auto tell = [&](int64_t sequence, int32_t token) {
      told[sequence].push_back(token);
      return sequence != 1 || told[1].size() < 3;
    };
    auto results = generate({*model}, prompts, config, tell, [&](int64_t sequence) { done.push_back(sequence); });
    for (size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(told[static_cast<int64_t>(i)], results[i]);
    EXPECT_EQ(results[1].size(), 3u);
    EXPECT_EQ(results[0].size(), 7u);
    std::sort(done.begin(), done.end());
    EXPECT_EQ(done, (std::vector<int64_t>{0, 1, 2, 3}));
  }
}

TEST(Generate, SamplingWithoutChoiceIsGreedy) {
  const auto model = toy_model(11);
  const auto prompts = toy_prompts(5, 11);
  const auto expected = generate({*model}, prompts, {.max_new_tokens = 8});
  EXPECT_EQ(generate({*model}, prompts, {.max_new_tokens = 8, .temperature = 1, .top_k = 1}), expected);
  EXPECT_EQ(generate({*model}, prompts, {.max_new_tokens = 8, .temperature = 1, .top_p = 1e-9}), expected);
  EXPECT_EQ(generate({*model}, prompts, {.max_new_tokens = 8, .temperature = 1e-6}), expected);
}

TEST(Generate, SeedsRepeatAndDiffer) {
  const auto model = toy_model(11);
  const std::vector<Ids> prompts(3, Ids{1, 2, 3});
  GenerateConfig config{.max_new_tokens = 12, .temperature = 1.5};
  const auto first = generate({*model}, prompts, config);
  EXPECT_EQ(generate({*model}, prompts, config), first);
  EXPECT_NE(first[0], first[1]);  // sequences draw apart
  config.seed = 43;
  EXPECT_NE(generate({*model}, prompts, config), first);
}

TEST(Generate, SamplesFollowTheDistribution) {
  const auto model = toy_model(11);
  const Ids prompt = {4, 4, 9};
  constexpr int64_t kDraws = 4000;
  const double temperature = 2;
  std::vector<double> p = next_log_probs(*model, prompt);
  double sum = 0;
  for (double& v : p) sum += v = std::exp(v / temperature);
  for (double& v : p) v /= sum;
  std::vector<size_t> order(p.size());
  for (size_t v = 0; v < p.size(); ++v) order[v] = v;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] > p[b]; });

  // Without a limit; the best 3; the fewest best that reach 0.6. `kept` counts the allowed tokens.
  size_t share = 0;
  for (double reached = 0; reached < 0.6; ++share) reached += p[order[share]];
  ASSERT_GT(share, 1u);
  struct Case {
    int64_t top_k;
    double top_p;
    size_t kept;
  };
  for (const Case& c : {Case{0, 1, p.size()}, Case{3, 1, 3}, Case{0, 0.6, share}}) {
    const GenerateConfig config{
        .max_new_tokens = 1, .temperature = temperature, .top_k = c.top_k, .top_p = c.top_p, .batch_size = 500};
    std::vector<double> counts(p.size());
    for (const Ids& r : generate({*model}, std::vector<Ids>(kDraws, prompt), config))
      ++counts[static_cast<size_t>(r[0])];
    double total = 0;
    for (size_t i = 0; i < c.kept; ++i) total += p[order[i]];
    for (size_t i = 0; i < p.size(); ++i) {
      const double expected = i < c.kept ? p[order[i]] / total : 0;
      // Five standard deviations of a binomial count; the seed is fixed.
      const double bound = 5 * std::sqrt(kDraws * expected * (1 - expected));
      EXPECT_NEAR(counts[order[i]], kDraws * expected, bound) << "rank " << i << " of " << c.kept;
    }
  }
}

/// Adds 100 to one logit.
class Insist final : public nn::Edit {
 public:
  explicit Insist(int64_t token) : token_(token) {}
  Var change_output(const nn::EditContext&, const Var& y) const override {
    const Tensor changed = y.value().clone();
    for (int64_t row = 0; row < changed.rows(); ++row) changed.data<double>()[row * changed.ld() + token_] += 100;
    return Var(changed);
  }
  std::vector<nn::Trainable> trainables() const override { return {}; }

 private:
  int64_t token_;
};

TEST(Generate, AnAdapterIsHeard) {
  const auto model = toy_model(11);
  const nn::Site* head = model->sites().find("lm_head");
  ASSERT_NE(head, nullptr);
  nn::EditSet edits;
  edits.add(*head, std::make_shared<Insist>(7));
  for (const int64_t beams : {1, 3})
    EXPECT_EQ(generate({*model, &edits}, {{1, 2}}, {.max_new_tokens = 4, .num_beams = beams})[0], (Ids{7, 7, 7, 7}));
}

TEST(Sampling, ANucleusOfManyTokensIsExact) {
  // 1000 tokens of nearly equal probability, so that the nucleus is far larger than what is sorted at first; ranks are
  // scattered over the ids. Chosen by a plain sort, the best 700 or so reach the share.
  constexpr int64_t kTokens = 1000;
  std::vector<double> logits(kTokens);
  for (int64_t v = 0; v < kTokens; ++v) logits[static_cast<size_t>(v)] = 1e-3 * static_cast<double>(v * 7 % kTokens);
  std::vector<std::pair<double, int32_t>> ranked;
  double total = 0;
  for (int64_t v = 0; v < kTokens; ++v) {
    ranked.push_back({std::exp(logits[static_cast<size_t>(v)]), static_cast<int32_t>(v)});
    total += ranked.back().first;
  }
  std::sort(ranked.rbegin(), ranked.rend());
  std::vector<bool> allowed(kTokens, false);
  int64_t count = 0;
  for (double sum = 0; sum < 0.7 * total; sum += ranked[static_cast<size_t>(count++)].first)
    allowed[static_cast<size_t>(ranked[static_cast<size_t>(count)].second)] = true;

  const LogitRows rows(Tensor::from(logits, {1, kTokens}));
  const GenerateConfig config{.max_new_tokens = 1, .temperature = 1, .top_p = 0.7};
  std::vector<bool> seen(kTokens, false);
  for (int64_t sequence = 0; sequence < 12000; ++sequence) {
    ChainSearch search(config, {0}, sequence, {});
    search.advance(rows, 0);
    const int32_t token = search.result()[0];
    ASSERT_TRUE(allowed[static_cast<size_t>(token)]) << token;
    seen[static_cast<size_t>(token)] = true;
  }
  // Each allowed token is missed with probability below exp(-12000 / 1000 * 0.9): none of them is expected to be.
  EXPECT_EQ(std::count(seen.begin(), seen.end(), true), count);
}

TEST(Generate, RepetitionPenaltyAvoidsWhatOccurred) {
  const auto model = toy_model(5);
  // With beams the penalty multiplies log-probabilities, all of them negative, so a huge one leaves the unseen token.
  GenerateConfig config{.max_new_tokens = 1, .repetition_penalty = 1e6, .num_beams = 2};
  for (int32_t unseen = 0; unseen < 5; ++unseen) {
    Ids prompt;
    for (int32_t v = 0; v < 5; ++v) {
      if (v != unseen) prompt.push_back(v);
    }
    EXPECT_EQ(generate({*model}, {prompt}, config)[0], Ids{unseen});
  }
}

/// All sequences of at most `length` tokens; those that `stop` ends are shorter. Calls visit(tokens, Σ log p, steps).
template <class F>
void enumerate(const nn::LanguageModel& model, const Ids& prompt, const Ids& tokens, double score, int64_t length,
               int32_t stop, const F& visit) {
  const int64_t steps = static_cast<int64_t>(tokens.size());
  if (steps == length) return visit(tokens, score, steps);
  Ids all = prompt;
  all.insert(all.end(), tokens.begin(), tokens.end());
  const auto log_probs = next_log_probs(model, all);
  for (size_t v = 0; v < log_probs.size(); ++v) {
    if (static_cast<int32_t>(v) == stop) {
      visit(tokens, score + log_probs[v], steps + 1);
      continue;
    }
    Ids more = tokens;
    more.push_back(static_cast<int32_t>(v));
    enumerate(model, prompt, more, score + log_probs[v], length, stop, visit);
  }
}

TEST(Beams, AllOfThemFindTheBestSequence) {
  constexpr int32_t kVocabulary = 4;
  constexpr int64_t kLength = 4;
  int ended = 0, not_greedy = 0;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    const auto model = toy_model(kVocabulary, seed);
    for (const Ids& prompt : toy_prompts(2, kVocabulary)) {
      for (const int32_t stop : {-1, 0, 3}) {
        for (const double penalty : {0.0, 1.0, 1.7}) {
          Ids best;
          double best_score = -1e300;
          enumerate(*model, prompt, {}, 0, kLength, stop, [&](const Ids& tokens, double score, int64_t steps) {
            score /= std::pow(static_cast<double>(steps), penalty);
            if (score > best_score) best_score = score, best = tokens;
          });
          GenerateConfig config{.max_new_tokens = kLength, .num_beams = 256, .length_penalty = penalty};
          if (stop >= 0) config.stop_ids = {stop};
          EXPECT_EQ(generate({*model}, {prompt}, config)[0], best) << seed << " " << stop << " " << penalty;
          ended += best.size() < kLength;
          config.num_beams = 1;
          not_greedy += generate({*model}, {prompt}, config)[0] != best;
        }
      }
    }
  }
  EXPECT_GT(ended, 5);
  EXPECT_GT(not_greedy, 5);  // or greedy search would have passed
}

TEST(Generate, RefusesWhatItCannotDo) {
  const auto model = toy_model(11);
  auto message = [&](const GenerateConfig& config, const std::vector<Ids>& prompts) {
    return usage_message([&] { generate({*model}, prompts, config); });
  };
  EXPECT_NE(message({}, {{1}, {}}).find("prompt 2: has no tokens"), std::string::npos);
  EXPECT_NE(message({}, {{1, 11}}).find("token id 11"), std::string::npos);
  EXPECT_NE(message({}, {{-1}}).find("token id -1"), std::string::npos);
  EXPECT_NE(message({.max_new_tokens = 0}, {{1}}).find("max_new_tokens"), std::string::npos);
  EXPECT_NE(message({.temperature = -1}, {{1}}).find("temperature"), std::string::npos);
  EXPECT_NE(message({.temperature = std::nan("")}, {{1}}).find("temperature"), std::string::npos);
  EXPECT_NE(message({.top_p = 0}, {{1}}).find("top_p"), std::string::npos);
  EXPECT_NE(message({.num_beams = 0}, {{1}}).find("num_beams"), std::string::npos);
  EXPECT_NE(message({.temperature = 1, .num_beams = 2}, {{1}}).find("beams do not sample"), std::string::npos);
  EXPECT_TRUE(generate({*model}, {}, {}).empty());
}

TEST(Generate, RefusesAModelThatSaysNothing) {
  const auto model = toy_model(11);
  for (nn::Parameter& p : model->parameters()) {
    if (p.path != "backbone.norm_f.weight") continue;
    p.set(Tensor::from(std::vector<double>(6, std::nan("")), {6}), model->precision(), false);
  }
  EXPECT_NE(usage_message([&] { generate({*model}, {{1}}, {}); }).find("NaN"), std::string::npos);
}

}  // namespace
}  // namespace molt::eval
