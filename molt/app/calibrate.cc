#include "molt/app/calibrate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>

#include "molt/base/rng.h"
#include "molt/device/cpu/parallel.h"
#include "molt/device/gemm.h"

namespace molt::app {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::vector<float> noise(int64_t count, const char* name) {
  const Rng rng(7, name);
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(2 * rng.uniform(i) - 1);
  return values;
}

/// Seconds of the fastest call of f, at least two calls (the first makes buffers and primitives).
template <class F>
double fastest(double seconds, const F& f) {
  const auto begin = Clock::now();
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 2 || since(begin) < seconds; ++i) {
    const auto start = Clock::now();
    f();
    best = std::min(best, since(start));
  }
  return std::max(best, 1e-9);
}

}  // namespace

ProductRate product_rate(int64_t rows, int64_t outputs, int64_t inputs, PackOptions kept, double seconds) {
  kept.rows_hint = rows;
  const std::vector<float> w = noise(outputs * inputs, "w"), x = noise(rows * inputs, "x"),
                           dy = noise(rows * outputs, "y");
  std::vector<float> y(dy.size()), dx(x.size());
  const PackedMatrix packed(matrix_of(w.data(), outputs, inputs), kept);
  const double flops = 2.0 * static_cast<double>(rows) * static_cast<double>(outputs) * static_cast<double>(inputs);
  ProductRate rate;
  rate.forward = flops / fastest(seconds / 2, [&] {
                   packed.forward(matrix_of(x.data(), rows, inputs), matrix_of(y.data(), rows, outputs));
                 });
  rate.backward = flops / fastest(seconds / 2, [&] {
                    packed.backward(matrix_of(dy.data(), rows, outputs), matrix_of(dx.data(), rows, inputs));
                  });
  return rate;
}

double memory_bandwidth(double seconds) {
  constexpr int64_t kBytes = int64_t{64} << 20;  // more than caches hold
  const auto from = Block::allocate(Device::kCpu, kBytes), to = Block::allocate(Device::kCpu, kBytes);
  std::memset(from->data(), 1, kBytes);
  const double best = fastest(seconds, [&] {
    parallel_ranges(kBytes, 1 << 16, [&](int64_t begin, int64_t end) {
      std::memcpy(static_cast<char*>(to->data()) + begin, static_cast<const char*>(from->data()) + begin,
                  static_cast<size_t>(end - begin));
    });
  });
  return 2.0 * kBytes / best;
}

double product_error(PackOptions kept) {
  constexpr int64_t T = 24, O = 48, I = 40;
  kept.rows_hint = T;
  const std::vector<float> w = noise(O * I, "w"), x = noise(T * I, "x"), dy = noise(T * O, "y");
  std::vector<float> y(T * O), dx(T * I);
  const PackedMatrix packed(matrix_of(w.data(), O, I), kept);
  packed.forward(matrix_of(x.data(), T, I), matrix_of(y.data(), T, O));
  packed.backward(matrix_of(dy.data(), T, O), matrix_of(dx.data(), T, I));
  double largest = 0, error = 0;
  auto compare = [&](double expected, float found) {
    largest = std::max(largest, std::abs(expected));
    error = std::max(error, std::isfinite(found) ? std::abs(expected - static_cast<double>(found)) : HUGE_VAL);
  };
  auto at = [](const std::vector<float>& m, int64_t i) { return static_cast<double>(m[static_cast<size_t>(i)]); };
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t o = 0; o < O; ++o) {
      double sum = 0;
      for (int64_t i = 0; i < I; ++i) sum += at(x, t * I + i) * at(w, o * I + i);
      compare(sum, y[static_cast<size_t>(t * O + o)]);
    }
    for (int64_t i = 0; i < I; ++i) {
      double sum = 0;
      for (int64_t o = 0; o < O; ++o) sum += at(dy, t * O + o) * at(w, o * I + i);
      compare(sum, dx[static_cast<size_t>(t * I + i)]);
    }
  }
  return error / largest;
}

namespace {

/// What three quarters of the values exceed: of repeated measurements, one that nothing disturbed much.
double lower_quartile(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto at = values.begin() + static_cast<int64_t>(values.size() / 4);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

}  // namespace

StepRates calibrate(Probe& probe, const std::vector<data::Batch>& batches, const CalibrationOptions& options) {
  std::vector<double> plain_forward, plain_head, known_forward, forward, backward, head, update;
  const auto begin = Clock::now();
  for (size_t i = 0; i < 1 || since(begin) < options.seconds; ++i) {
    const data::Batch& batch = batches[i % batches.size()];
    const double token_layers = static_cast<double>(batch.rows() * probe.layers());
    const double labelled = static_cast<double>(std::max<int64_t>(1, batch.labelled));
    const StepLaps laps = probe.step(batch, options.recompute);
    forward.push_back(laps.forward / token_layers);
    backward.push_back(laps.backward / token_layers);
    head.push_back(laps.head / labelled);
    update.push_back(laps.update / static_cast<double>(std::max<int64_t>(1, probe.trainable_count())));
    if (i % 4 != 0) continue;
    const StepLaps plain = probe.plain(batch);
    plain_forward.push_back(plain.forward / token_layers);
    plain_head.push_back(plain.head / labelled);
    if (options.known) known_forward.push_back(probe.again(batch).forward / token_layers);
  }
  return {.plain_forward = lower_quartile(std::move(plain_forward)),
          .plain_head = lower_quartile(std::move(plain_head)),
          .layer_forward = lower_quartile(std::move(forward)),
          .known_forward = lower_quartile(std::move(known_forward)),
          .layer_backward = lower_quartile(std::move(backward)),
          .head = lower_quartile(std::move(head)),
          .update = lower_quartile(std::move(update))};
}

}  // namespace molt::app
