// What the tests of evaluation share: a tiny random Mamba in f64, and slow, plain ways to ask it things.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "molt/base/error.h"
#include "molt/base/rng.h"
#include "molt/eval/model_view.h"
#include "molt/ops/cross_entropy.h"

namespace molt::eval::testing {

using Ids = std::vector<int32_t>;

/// Two layers with random weights, large enough that tokens differ in likelihood. In f64 two ways to compute the same
/// differ by rounding only (about 1e-14), so what is equal in theory may be compared to 1e-10.
inline std::unique_ptr<nn::LanguageModel> toy_model(int64_t vocabulary, uint64_t seed = 1) {
  nn::MambaConfig mixer;
  mixer.d_model = 6;
  mixer.d_inner = 12;
  mixer.d_state = 3;
  mixer.d_conv = 4;
  mixer.dt_rank = 2;
  nn::LanguageModelPlan plan;
  plan.family = "mamba";
  plan.vocabulary = vocabulary;
  plan.d_model = 6;
  plan.layers.assign(2, {mixer});
  const nn::Precision precision{.base = Dtype::kF64, .compute = Dtype::kF64};
  auto model = std::make_unique<nn::LanguageModel>(plan, precision);
  for (nn::Parameter& p : model->parameters()) {
    const Rng rng(seed, p.path);
    std::vector<double> values(static_cast<size_t>(shape_numel(p.shape)));
    for (size_t i = 0; i < values.size(); ++i) values[i] = 0.7 * rng.normal(i);
    p.set(Tensor::from(values, p.shape), precision, false);
  }
  return model;
}

/// log softmax of what comes after `ids`, by one plain pass over all of them.
inline std::vector<double> next_log_probs(const nn::LanguageModel& model, const Ids& ids) {
  const NoGrad no_grad;
  const int64_t length = static_cast<int64_t>(ids.size());
  const Segments segments = Segments::one(length);
  nn::Context context;
  context.segments = &segments;
  std::vector<double> x = model.logits(context, model.hidden(context, ids), {length - 1}).value().values();
  double sum = 0;
  for (const double v : x) sum += std::exp(v);
  for (double& v : x) v -= std::log(sum);
  return x;
}

/// Σ log p(continuation | prompt), token by token.
inline double log_prob(const nn::LanguageModel& model, Ids prompt, const Ids& continuation) {
  double sum = 0;
  for (const int32_t id : continuation) {
    sum += next_log_probs(model, prompt)[static_cast<size_t>(id)];
    prompt.push_back(id);
  }
  return sum;
}

/// Greedy continuation, each token by a pass over everything before it.
inline Ids greedy(const nn::LanguageModel& model, Ids prompt, int64_t count) {
  Ids out;
  for (int64_t i = 0; i < count; ++i) {
    const auto p = next_log_probs(model, prompt);
    out.push_back(static_cast<int32_t>(std::max_element(p.begin(), p.end()) - p.begin()));
    prompt.push_back(out.back());
  }
  return out;
}

/// Prompts of different lengths.
inline std::vector<Ids> toy_prompts(size_t count, int32_t vocabulary, int32_t longest = 12) {
  const Rng rng(7, "prompts");
  std::vector<Ids> prompts(count);
  uint64_t draw = 0;
  for (Ids& prompt : prompts) {
    const uint32_t length = 1 + rng.below(draw++, static_cast<uint32_t>(longest));
    for (uint32_t t = 0; t < length; ++t)
      prompt.push_back(static_cast<int32_t>(rng.below(draw++, static_cast<uint32_t>(vocabulary))));
  }
  return prompts;
}

/// The text of the UsageError that `f` throws, or "" when it throws none.
template <class F>
std::string usage_message(F&& f) {
  try {
    f();
  } catch (const UsageError& e) {
    return e.what();
  }
  return "";
}

}  // namespace molt::eval::testing
