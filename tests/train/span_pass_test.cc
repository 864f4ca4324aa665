// Batches in spans: the gradients are those of the whole batch whatever the length of a span, also with dropout and
// accumulation; truncated ones are those of pieces that start from a given state.
#include "molt/train/span_pass.h"

#include <cmath>

#include "tests/cases/methods.h"

namespace molt::train {
namespace {

using molt::testing::full_on;
using molt::testing::golden_dir;
using molt::testing::GoldenStream;
using molt::testing::lora_on;
using molt::testing::MakeMethod;
using molt::testing::relative_error;
using molt::testing::sdt_with;
using molt::testing::TunedModel;

data::Batch golden_batch(const std::string& model) {
  const GoldenStream stream(io::SafetensorsFile(golden_dir(model) + "/golden.safetensors"));
  data::Batch batch{.ids = stream.ids, .labels = stream.labels, .segments = stream.segments};
  for (const int32_t label : batch.labels) batch.labelled += label >= 0;
  return batch;
}

/// One long segment of the same tokens.
data::Batch joined(data::Batch batch) {
  batch.segments = Segments::one(batch.rows());
  return batch;
}

struct Outcome {
  PassLoss loss;
  std::vector<std::pair<std::string, Tensor>> grads;
};

/// `methods` with values moved away from their start, so that every gradient is there.
Outcome run(const std::string& model, const std::vector<MakeMethod>& methods, const data::Batch& batch,
            const SpanConfig& config) {
  TunedModel tuned(model, Dtype::kF64, methods);
  for (const nn::Trainable& t : tuned.trainables()) {
    const Tensor value = t.var.value();
    for (int64_t i = 0; i < value.numel(); ++i) value.data<double>()[i] += 0.02 * std::sin(static_cast<double>(i));
  }
  tuned.after_step();
  const nn::Context c{.edits = &tuned.edits(), .training = true, .seed = 3, .step = 5, .first_row = 7};
  Outcome out{.loss = run_pass(tuned.model(), c, batch, config)};
  for (const nn::Trainable& t : tuned.trainables()) out.grads.emplace_back(t.name, t.var.grad());
  return out;
}

void expect_same(const Outcome& a, const Outcome& b) {
  EXPECT_EQ(a.loss.count, b.loss.count);
  EXPECT_NEAR(a.loss.sum, b.loss.sum, 1e-11 * std::abs(b.loss.sum));
  ASSERT_EQ(a.grads.size(), b.grads.size());
  for (size_t i = 0; i < a.grads.size(); ++i) {
    ASSERT_EQ(a.grads[i].second.defined(), b.grads[i].second.defined()) << a.grads[i].first;
    if (a.grads[i].second.defined()) {
      EXPECT_LT(relative_error(a.grads[i].second, b.grads[i].second), 1e-10) << a.grads[i].first;
    }
  }
}

TEST(SpanPass, GradientsAreThoseOfTheWholeBatch) {
  const std::vector<std::pair<const char*, std::vector<MakeMethod>>> cases = {
      {"everything", {full_on({})}},
      {"lora with dropout", {lora_on({"in_proj", "x_proj", "out_proj"}, 0.3)}},
      {"sdt and lora", {sdt_with("ssm"), lora_on({"out_proj"})}},
  };
  for (const char* model : {"tied_small", "untied_odd"}) {
    for (const auto& [name, methods] : cases) {
      for (const data::Batch& batch : {golden_batch(model), joined(golden_batch(model))}) {
        const Outcome whole = run(model, methods, batch, {});
        for (const int64_t length : {1, 2, 3, 7, 19, 1000}) {
          SCOPED_TRACE(str(model, " ", name, " in spans of ", length, " of ", batch.rows()));
          expect_same(run(model, methods, batch, {.length = length}), whole);
        }
      }
    }
  }
}

TEST(SpanPass, TruncationKeepsTheLossAndCutsTheGradient) {
  const std::vector<MakeMethod> methods = {lora_on({"in_proj", "x_proj", "out_proj"})};
  const data::Batch batch = joined(golden_batch("tied_small"));
  const Outcome whole = run("tied_small", methods, batch, {});
  const Outcome cut = run("tied_small", methods, batch, {.length = 10, .truncated = true});
  EXPECT_NEAR(cut.loss.sum, whole.loss.sum, 1e-11 * whole.loss.sum);
  double largest = 0;
  for (size_t i = 0; i < cut.grads.size(); ++i)
    largest = std::max(largest, relative_error(cut.grads[i].second, whole.grads[i].second));
  EXPECT_GT(largest, 1e-4);
  // A batch without a segment to cut has nothing to truncate.
  const data::Batch short_ones = golden_batch("tied_small");
  int64_t longest = 0;
  for (int64_t s = 0; s < short_ones.segments.count(); ++s) longest = std::max(longest, short_ones.segments.length(s));
  expect_same(run("tied_small", methods, short_ones, {.length = longest, .truncated = true}),
              run("tied_small", methods, short_ones, {}));
}

TEST(SpanPass, PiecesWithoutLabelsStillHandGradientsBack) {
  const std::vector<MakeMethod> methods = {lora_on({"in_proj", "x_proj", "out_proj"}), full_on({"A_log"})};
  data::Batch batch = joined(golden_batch("tied_small"));
  for (int64_t t = 0; t < batch.rows(); ++t)
    batch.labels[static_cast<size_t>(t)] = t + 3 < batch.rows() ? data::kIgnored : 1;
  const Outcome whole = run("tied_small", methods, batch, {}), cut = run("tied_small", methods, batch, {.length = 8});
  EXPECT_GT(whole.loss.count, 0);
  expect_same(cut, whole);
}

}  // namespace
}  // namespace molt::train
