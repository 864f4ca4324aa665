// Results of products that spans leave to their second run: every bit is that of computing them again, whatever a
// method does at the linears and around them, and they are used indeed.
#include "molt/autograd/tape.h"
#include "molt/nn/remembered.h"
#include "molt/train/span_pass.h"
#include "tests/train/long_batch.h"

namespace molt::train {
namespace {

using molt::testing::golden_batch;
using molt::testing::joined;
using molt::testing::MethodCase;
using molt::testing::shake;
using molt::testing::TunedBase;
using molt::testing::TunedModel;

constexpr int64_t kSpan = 9;

struct Outcome {
  double loss = 0;
  std::vector<std::vector<double>> grads;
};

template <class Tuned>
Outcome run(const Tuned& tuned, const nn::Context& c, const data::Batch& batch, int64_t keep) {
  Outcome out;
  out.loss = run_pass(tuned.model(), c, batch, {.length = kSpan, .keep = keep}).sum;
  for (const nn::Trainable& t : tuned.trainables()) {
    out.grads.push_back(t.var.grad().defined() ? t.var.grad().values() : std::vector<double>());
    t.var.clear_grad();
  }
  return out;
}

/// Bytes that the products of one span leave.
template <class Tuned>
int64_t product_bytes(const Tuned& tuned, nn::Context c, const data::Batch& batch) {
  const NoGrad no_grad;
  const Segments one = Segments::one(kSpan);
  nn::Remembered products(nn::lowest_trained_layer(tuned.model(), *c.edits));
  c.segments = &one, c.keeps = &products;
  tuned.model().hidden(c, {batch.ids.begin(), batch.ids.begin() + kSpan});
  return products.bytes();
}

TEST(SpanProducts, ChangeNoBitUnderAnyMethod) {
  int64_t used = 0;
  for (const MethodCase& method : molt::testing::method_cases()) {
    SCOPED_TRACE(method.name);
    const data::Batch batch = joined(golden_batch(method.model));
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
  EXPECT_GT(used, 500);  // all but those on the embedding and the head alone
}

// Where kernels take the low-rank addition along with the product, they have a second way to go too.
TEST(SpanProducts, ChangeNoBitInLowPrecision) {
  const data::Batch batch = TunedBase::batch(40);
  for (const nn::Precision& precision : {nn::Precision{.base = Dtype::kBf16, .compute = Dtype::kBf16},
                                         nn::Precision{.base = Dtype::kI8, .compute = Dtype::kBf16},
                                         nn::Precision{.base = Dtype::kI8, .compute = Dtype::kI8}}) {
    SCOPED_TRACE(str(dtype_name(precision.base), " ", dtype_name(precision.compute)));
    const TunedBase tuned(precision);
    const nn::Context c = tuned.context();
    const int64_t bytes = product_bytes(tuned, c, batch);
    ASSERT_GT(bytes, 0);
    const Outcome plain = run(tuned, c, batch, 0);
    for (const int64_t keep : {bytes * 2, bytes * 4, bytes * 8, int64_t{1} << 30}) {
      const Outcome kept = run(tuned, c, batch, keep);
      EXPECT_EQ(kept.loss, plain.loss) << keep;
      EXPECT_EQ(kept.grads, plain.grads) << keep;
    }
  }
}

TEST(SpanProducts, LeaveOutWhatDoesNotTrain) {
  const data::Batch batch = joined(golden_batch("tied_small"));
  const auto on_layer = [](const std::string& layer) {
    return molt::testing::lora_on({".*layers\\." + layer + "\\.mixer\\.(in_proj|x_proj)"});
  };
  const TunedModel tuned("tied_small", Dtype::kF64, {on_layer("1")});
  const nn::Context c{.edits = &tuned.edits(), .training = true};
  ASSERT_EQ(nn::lowest_trained_layer(tuned.model(), tuned.edits()), 1);
  const int64_t layers = static_cast<int64_t>(tuned.model().plan().layers.size());
  // The second run begins at the lowest layer that trains.
  const auto scans = [&](int64_t keep) {
    int64_t seen = 0;
    const OpObserver observer([&](const char* op, const Tensor&) { seen += std::string(op) == "selective_scan"; });
    run(tuned, c, batch, keep);
    return seen / 2;  // each has two outputs
  };
  const int64_t pieces = (batch.rows() + kSpan - 1) / kSpan, bytes = product_bytes(tuned, c, batch);
  EXPECT_EQ(scans(0), layers * (2 * pieces - 1));
  EXPECT_EQ(scans(bytes * (pieces - 1)), layers * (2 * pieces - 1) - (pieces - 1));
}

TEST(SpanProducts, AreWhatTheSecondRunTakes) {
  TunedModel tuned("tied_small", Dtype::kF64, {molt::testing::lora_on({"in_proj", "x_proj", "out_proj"})});
  const data::Batch batch = joined(golden_batch("tied_small"));
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
    const Tensor changed = products.take(site.id, true);
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
