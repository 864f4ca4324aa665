// Results of products that spans leave to their second run: every bit is that of computing them again, whatever a
// method does at the linears and around them, and they are used indeed.
#include <cmath>

#include "molt/autograd/tape.h"
#include "molt/nn/remembered.h"
#include "molt/train/span_pass.h"
#include "tests/cases/methods.h"

namespace molt::train {
namespace {

using molt::testing::golden_dir;
using molt::testing::GoldenStream;
using molt::testing::MethodCase;
using molt::testing::TunedModel;

constexpr int64_t kSpan = 9;

data::Batch long_batch(const std::string& model) {
  const GoldenStream stream(io::SafetensorsFile(golden_dir(model) + "/golden.safetensors"));
  data::Batch batch{.ids = stream.ids, .labels = stream.labels, .segments = Segments::one(stream.segments.tokens())};
  for (const int32_t label : batch.labels) batch.labelled += label >= 0;
  return batch;
}

void shake(const Tensor& value) {
  for (int64_t i = 0; i < value.numel(); ++i) {
    const double move = 0.02 * std::sin(static_cast<double>(i));
    value.dtype() == Dtype::kF64 ? value.data<double>()[i] += move : value.data<float>()[i] += static_cast<float>(move);
  }
}

struct Outcome {
  double loss = 0;
  std::vector<std::vector<double>> grads;
};

Outcome run(const TunedModel& tuned, const nn::Context& c, const data::Batch& batch, int64_t keep) {
  Outcome out;
  out.loss = run_pass(tuned.model(), c, batch, {.length = kSpan, .keep = keep}).sum;
  for (const nn::Trainable& t : tuned.trainables()) {
    out.grads.push_back(t.var.grad().defined() ? t.var.grad().values() : std::vector<double>());
    t.var.clear_grad();
  }
  return out;
}

/// Bytes that the products of one span leave.
int64_t product_bytes(const TunedModel& tuned, nn::Context c, const data::Batch& batch) {
  const NoGrad no_grad;
  const Segments one = Segments::one(kSpan);
  nn::Remembered products;
  c.segments = &one, c.keeps = &products;
  tuned.model().hidden(c, {batch.ids.begin(), batch.ids.begin() + kSpan});
  return products.bytes();
}

TEST(SpanProducts, ChangeNoBitUnderAnyMethod) {
  int64_t used = 0;
  for (const MethodCase& method : molt::testing::method_cases()) {
    SCOPED_TRACE(method.name);
    const data::Batch batch = long_batch(method.model);
    const int64_t pieces = (batch.rows() + kSpan - 1) / kSpan;
    for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
      TunedModel tuned(method.model, dtype, method.methods);
      tuned.begin_phase(method.phase);
      for (const nn::Trainable& t : tuned.trainables()) shake(t.var.value());
      tuned.after_step();
      const nn::Context c{
          .edits = &tuned.edits(), .training = true, .seed = 3, .step = 4, .phase_step = 4, .phase_steps = 8};
      const int64_t bytes = product_bytes(tuned, c, batch);
      used += bytes > 0;
      const Outcome plain = run(tuned, c, batch, 0);
      // Room for the products of all pieces, of two, and for two pieces whole as well.
      for (const int64_t keep : {bytes * (pieces - 1), bytes * 2, bytes * (pieces + 30)}) {
        const Outcome kept = run(tuned, c, batch, keep);
        EXPECT_EQ(kept.loss, plain.loss) << keep;
        EXPECT_EQ(kept.grads, plain.grads) << keep;
      }
    }
  }
  EXPECT_GT(used, 100);
}

TEST(SpanProducts, AreWhatTheSecondRunTakes) {
  TunedModel tuned("tied_small", Dtype::kF64, {molt::testing::lora_on({"in_proj", "x_proj", "out_proj"})});
  const data::Batch batch = long_batch("tied_small");
  const Segments all = Segments::one(batch.rows());
  nn::Remembered products;
  nn::Context first{.segments = &all, .edits = &tuned.edits(), .training = true}, second = first;
  first.keeps = &products, second.known = &products;
  const Tensor plain = tuned.model().hidden(first, batch.ids).value().clone();
  EXPECT_EQ(tuned.model().hidden(second, batch.ids).value().values(), plain.values());
  EXPECT_EQ(products.bytes(), 0);  // taken, once

  tuned.model().hidden(first, batch.ids);
  for (const nn::Site& site : tuned.model().sites().all()) {
    if (site.path.find("mixer.out_proj") == std::string::npos) continue;
    const Tensor changed = products.take(site.id);
    ASSERT_TRUE(changed.defined());
    shake(changed);
    products.keep(site.id, changed);
  }
  EXPECT_NE(tuned.model().hidden(second, batch.ids).value().values(), plain.values());
}

TEST(SpanProducts, ComeBeforeWholeActivationsAndStayWithinTheBytes) {
  for (int64_t bytes = 0; bytes < 120; ++bytes) {
    const SpanShare share = share_out(bytes, 7, 4, 16);
    EXPECT_LE(share.products * 4 + share.whole * 16, bytes);
    EXPECT_LE(share.products + share.whole, 7);
    if (share.whole > 0) {
      EXPECT_EQ(share.products + share.whole, 7) << bytes;
    }
  }
  EXPECT_EQ(share_out(27, 7, 4, 16).products, 6);
  EXPECT_EQ(share_out(40, 7, 4, 16).whole, 1);
  EXPECT_EQ(share_out(1000, 7, 4, 16).whole, 7);
  EXPECT_EQ(share_out(33, 7, 0, 16).whole, 2);   // nothing to leave of products
  EXPECT_EQ(share_out(33, 7, 20, 16).whole, 2);  // and where they are no smaller
  EXPECT_EQ(share_out(1000, 0, 4, 16).whole, 0);
}

}  // namespace
}  // namespace molt::train
