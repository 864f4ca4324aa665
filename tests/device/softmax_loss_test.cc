// The fused loss of the head against logits and cross-entropy, one after the other.
#include "molt/device/softmax_loss.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "molt/base/rng.h"
#include "molt/device/cpu/parallel.h"
#include "tests/device/matrices.h"

namespace molt {
namespace {

std::vector<float> random(int64_t count, uint64_t key, double scale) {
  const Rng rng(key);
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(bf16(static_cast<float>(scale * rng.normal(i))));  // so that packing rounds nothing
  return values;
}

struct Reference {
  double sum = 0;
  std::vector<double> dx;
};
Reference reference(const std::vector<float>& x, const std::vector<float>& w, const std::vector<int32_t>& labels,
                    int64_t D, int64_t V) {
  Reference r;
  r.dx.assign(x.size(), 0);
  for (size_t t = 0; t < labels.size(); ++t) {
    std::vector<double> logits(static_cast<size_t>(V));
    double high = -1e300, total = 0;
    for (int64_t v = 0; v < V; ++v) {
      for (int64_t d = 0; d < D; ++d)
        logits[v] += static_cast<double>(x[t * D + d]) * static_cast<double>(w[v * D + d]);
      high = std::max(high, logits[v]);
    }
    for (const double l : logits) total += std::exp(l - high);
    r.sum += std::log(total) + high - logits[labels[t]];
    for (int64_t v = 0; v < V; ++v) {
      const double p = std::exp(logits[v] - high) / total - (v == labels[t]);
      for (int64_t d = 0; d < D; ++d) r.dx[t * D + d] += p * static_cast<double>(w[v * D + d]);
    }
  }
  return r;
}

TEST(SoftmaxLoss, agrees_with_logits_in_double) {
  struct Case {
    int64_t T, D, V;
    double scale;  // of the logits; large ones move the reference
  };
  for (const Case& c : {Case{5, 64, 1000, 1},
                        {49, 100, 1571, 30},
                        {33, 800, 33, 1},
                        {64, 32, 8, 4},
                        {130, 64, 2048, 8},
                        {300, 64, 2048, 8}}) {
    SCOPED_TRACE(str("T=", c.T, " D=", c.D, " V=", c.V, " scale ", c.scale));
    const std::vector<float> x = random(c.T * c.D, 1, 1), w = random(c.V * c.D, 2, c.scale / std::sqrt(double(c.D)));
    std::vector<int32_t> labels;
    for (int64_t t = 0; t < c.T; ++t) labels.push_back(static_cast<int32_t>((t * 37 + c.V - 1) % c.V));
    const PackedMatrix packed(matrix_of(w.data(), c.V, c.D), {.compute = Dtype::kBf16});
    if (!softmax_loss_available(packed, true)) GTEST_SKIP() << "no tiles of bf16 here";
    std::vector<float> dx(x.size());
    const double sum = softmax_loss(packed, matrix_of(x.data(), c.T, c.D), labels, matrix_of(dx.data(), c.T, c.D));
    const Reference r = reference(x, w, labels, c.D, c.V);
    EXPECT_NEAR(sum, r.sum, 2e-5 * std::abs(r.sum));  // sums of f32 products over D
    double worst = 0, square = 0;
    for (size_t i = 0; i < dx.size(); ++i)
      worst = std::max(worst, std::abs(static_cast<double>(dx[i]) - r.dx[i])), square += r.dx[i] * r.dx[i];
    // Each probability is rounded to bf16: 2^-9 of it, of which D-wise sums keep a part.
    EXPECT_LT(worst / std::sqrt(square / static_cast<double>(dx.size())), 0.02);
    EXPECT_EQ(softmax_loss(packed, matrix_of(x.data(), c.T, c.D), labels, {}), sum) << "without a gradient";
  }
}

TEST(SoftmaxLoss, bits_do_not_depend_on_threads_and_nan_is_seen) {
  const std::vector<float> w = random(3000 * 64, 2, 0.3);
  const PackedMatrix packed(matrix_of(w.data(), 3000, 64), {.compute = Dtype::kBf16});
  if (!softmax_loss_available(packed, true)) GTEST_SKIP() << "no tiles of bf16 here";
  for (const int64_t rows : {100, 300}) {  // threads share outputs, or rows
    std::vector<float> x = random(rows * 64, 1, 1), dx[2];
    std::vector<int32_t> labels(static_cast<size_t>(rows), 7);
    const int before = thread_count();
    double sums[2];
    for (const int threads : {1, 2}) {
      set_thread_count(threads);
      dx[threads - 1].resize(x.size());
      sums[threads - 1] =
          softmax_loss(packed, matrix_of(x.data(), rows, 64), labels, matrix_of(dx[threads - 1].data(), rows, 64));
    }
    set_thread_count(before);
    EXPECT_EQ(sums[0], sums[1]);
    EXPECT_EQ(dx[0], dx[1]);
    x[static_cast<size_t>(rows - 1) * 64] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(std::isnan(softmax_loss(packed, matrix_of(x.data(), rows, 64), labels, {})));
    labels[3] = 3000;
    EXPECT_THROW(softmax_loss(packed, matrix_of(x.data(), rows, 64), labels, {}), InternalError);
  }
}

}  // namespace
}  // namespace molt
