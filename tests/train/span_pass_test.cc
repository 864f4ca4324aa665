// Batches in spans: the gradients are those of the whole batch whatever the length of a span, also with dropout and
// accumulation; truncated ones are those of pieces that start from a given state. Activations that are kept instead of
// computed again change no bit, and take no more memory than they may.
#include "molt/train/span_pass.h"

#include <cmath>
#include <cstring>

#include "molt/device/memory.h"
#include "tests/train/long_batch.h"

namespace molt::train {
namespace {

using molt::testing::full_on;
using molt::testing::golden_batch;
using molt::testing::joined;
using molt::testing::lora_on;
using molt::testing::MakeMethod;
using molt::testing::relative_error;
using molt::testing::sdt_with;
using molt::testing::shake;
using molt::testing::TunedBase;
using molt::testing::TunedModel;

struct Outcome {
  PassLoss loss;
  std::vector<std::pair<std::string, Tensor>> grads;
  int64_t scans = 0;  // that ran forward
  int64_t peak = 0;   // bytes of tensors, beside what was there before
};

/// `methods` with values moved away from their start, so that every gradient is there.
Outcome run(const std::string& model, const std::vector<MakeMethod>& methods, const data::Batch& batch,
            const SpanConfig& config, Dtype dtype = Dtype::kF64) {
  TunedModel tuned(model, dtype, methods);
  for (const nn::Trainable& t : tuned.trainables()) shake(t.var.value());
  tuned.after_step();
  const nn::Context c{.edits = &tuned.edits(), .training = true, .seed = 3, .step = 5, .first_row = 7};
  Outcome out;
  const OpObserver observer(
      [&](const char* op, const Tensor&) { out.scans += std::strcmp(op, "selective_scan") == 0; });
  const auto before = static_cast<int64_t>(memory_use().live);
  reset_peak_memory();
  out.loss = run_pass(tuned.model(), c, batch, config);
  out.peak = static_cast<int64_t>(memory_use().peak) - before;
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

void expect_same_bits(const Outcome& a, const Outcome& b) {
  EXPECT_EQ(a.loss.count, b.loss.count);
  EXPECT_EQ(a.loss.sum, b.loss.sum);
  ASSERT_EQ(a.grads.size(), b.grads.size());
  for (size_t i = 0; i < a.grads.size(); ++i) {
    const Tensor &x = a.grads[i].second, &y = b.grads[i].second;
    ASSERT_EQ(x.defined(), y.defined()) << a.grads[i].first;
    if (x.defined()) {
      EXPECT_EQ(x.values(), y.values()) << a.grads[i].first;
    }
  }
}

TEST(SpanPass, WhatIsKeptChangesNoBitAndStaysWithinItsMemory) {
  const std::vector<MakeMethod> methods = {lora_on({"in_proj", "x_proj", "out_proj"}, 0.3), full_on({"A_log"})};
  for (const char* model : {"tied_small", "untied_odd"}) {
    const data::Batch batch = joined(golden_batch(model));
    for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
      for (const int64_t length : {2, 5, 9}) {
        const int64_t pieces = (batch.rows() + length - 1) / length;
        const Outcome none = run(model, methods, batch, {.length = length}, dtype);
        const int64_t layers = none.scans / (2 * pieces - 1) / 2;  // every op is seen once for each of its two outputs
        ASSERT_EQ(none.scans, 2 * layers * (2 * pieces - 1));
        int64_t fewest = none.scans;
        for (const int64_t keep : {int64_t{1}, none.peak / 2, none.peak, 3 * none.peak, int64_t{1} << 30}) {
          SCOPED_TRACE(str(model, " ", dtype_name(dtype), " in spans of ", length, " keeping ", keep));
          const Outcome kept = run(model, methods, batch, {.length = length, .keep = keep}, dtype);
          expect_same_bits(kept, none);
          EXPECT_LE(kept.peak, none.peak + keep);
          EXPECT_LE(kept.scans, fewest);
          fewest = kept.scans;
        }
        EXPECT_EQ(fewest, 2 * layers * pieces) << "where all fit, each piece runs forward once";
      }
    }
  }
}

TEST(SpanPass, RecomputingKeepsNothing) {
  const std::vector<MakeMethod> methods = {lora_on({"in_proj"})};
  const data::Batch batch = joined(golden_batch("tied_small"));
  TunedModel tuned("tied_small", Dtype::kF32, methods);
  int64_t scans = 0;
  const OpObserver observer([&](const char* op, const Tensor&) { scans += std::strcmp(op, "selective_scan") == 0; });
  const nn::Context c{.edits = &tuned.edits(), .training = true, .seed = 3, .recompute = true};
  run_pass(tuned.model(), c, batch, {.length = 9});
  const int64_t without = scans;
  scans = 0;
  run_pass(tuned.model(), c, batch, {.length = 9, .keep = int64_t{1} << 30});
  EXPECT_EQ(scans, without);
}

TEST(SpanPass, LowPrecisionIsThatOfTheWholeBatch) {
  // What is rounded to bf16 is rounded to it in spans too; beside sums in another order, which may round to the next
  // bf16 (2^-9) where they are close to it, nothing differs.
  const TunedBase tuned({.base = Dtype::kBf16, .compute = Dtype::kBf16});
  const data::Batch batch = TunedBase::batch(100);
  const auto gradients = [&](const SpanConfig& config) {
    std::vector<Tensor> all;
    run_pass(tuned.model(), tuned.context(), batch, config);
    for (const nn::Trainable& t : tuned.trainables()) {
      all.push_back(t.var.grad());
      t.var.clear_grad();
    }
    return all;
  };
  const std::vector<Tensor> whole = gradients({}), cut = gradients({.length = 24});
  double sum = 0;
  for (size_t i = 0; i < whole.size(); ++i) sum += relative_error(cut[i], whole[i]) / static_cast<double>(whole.size());
  EXPECT_LT(sum, 0.01);
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
