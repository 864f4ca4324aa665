// Times single operations at the shapes of a 130 M parameter Mamba. Usage: ops_bench [--json] [--seconds S]
// [--threads N] [FILTER]: only lines whose name contains FILTER.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "bench/timing.h"
#include "molt/base/rng.h"
#include "molt/base/str.h"
#include "molt/device/cpu/parallel.h"
#include "molt/ops/conv.h"
#include "molt/ops/rms_norm.h"
#include "molt/ops/scan.h"

namespace molt::bench {
namespace {

struct Options {
  bool json = false;
  double seconds = 0.5;
  std::string filter;
};

Tensor random(Shape shape, uint64_t seed, float scale = 1, float shift = 0) {
  Tensor t = Tensor::empty(std::move(shape), Dtype::kF32);
  const Rng rng(seed);
  for (int64_t i = 0; i < t.numel(); ++i)
    t.data<float>()[i] = scale * static_cast<float>(rng.normal(static_cast<uint64_t>(i))) + shift;
  return t;
}

/// Segments of equal length that cover `tokens`.
Segments equal_segments(int64_t tokens, int64_t count) {
  Segments segments;
  for (int64_t s = 0; s < count; ++s) segments.append(tokens * (s + 1) / count - tokens * s / count);
  return segments;
}

class Bench {
 public:
  explicit Bench(const Options& options) : options_(options), report_(options.json) {}

  /// `run` maps leaves to one output; timed without a tape, with one, and then backward.
  void op(const std::string& name, const std::string& shape, int64_t tokens, const std::vector<Var>& inputs,
          const std::function<Var(const std::vector<Var>&)>& run) {
    std::vector<Var> constants;
    for (const Var& v : inputs) constants.push_back(v.detach());
    const double count = static_cast<double>(tokens);
    const auto nothing = [] {};
    if (wanted(name + " forward"))
      report_.line(name + " forward", shape, count, measure(options_.seconds, nothing, [&] { run(constants); }));
    if (std::none_of(inputs.begin(), inputs.end(), [](const Var& v) { return v.needs_grad(); })) return;
    Var y;
    if (wanted(name + " forward, taped"))
      report_.line(name + " forward, taped", shape, count,
                   measure(
                       options_.seconds, [&] { y = Var(); }, [&] { y = run(inputs); }));
    if (wanted(name + " backward")) {
      const Tensor dy = random(run(constants).value().shape(), 99);
      const auto forward = [&] {
        for (const Var& v : inputs) {
          if (v.needs_grad()) v.clear_grad();
        }
        y = run(inputs);
      };
      report_.line(name + " backward", shape, count, measure(options_.seconds, forward, [&] { backward(y, dy); }));
    }
  }

 private:
  bool wanted(const std::string& name) const { return name.find(options_.filter) != std::string::npos; }
  Options options_;
  Report report_;
};

void scan(Bench& bench, int64_t tokens, int64_t segments, bool train_A) {
  const int64_t width = 1536, states = 16;
  Tensor A_log = Tensor::empty({width, states}, Dtype::kF32);
  for (int64_t i = 0; i < A_log.numel(); ++i) A_log.data<float>()[i] = std::log(static_cast<float>(i % states + 1));
  // x beside z, and dt beside B and C, as the projections leave them.
  const Var xz = Var::leaf(random({tokens, 2 * width}, 1)), bc = Var::leaf(random({tokens, 2 * states + 48}, 2));
  const std::vector<Var> inputs = {xz, Var::leaf(random({tokens, width}, 3, 1, -4)), bc,
                                   train_A ? Var::leaf(A_log) : Var(A_log), Var(random({width}, 4))};
  const Segments layout = equal_segments(tokens, segments);
  bench.op(
      train_A ? "scan, A trained," : "scan", str("T=", tokens, " S=", segments, " E=1536 N=16"), tokens, inputs,
      [&](const std::vector<Var>& v) {
        const ops::ScanInputs in{
            v[0].columns(0, width),     v[1], v[3], v[2].columns(48, states), v[2].columns(48 + states, states), v[4],
            v[0].columns(width, width), {}};
        return ops::selective_scan(in, layout, false).y;
      });
}

void scan_step(Bench& bench, int64_t segments) {
  const int64_t width = 1536, states = 16;
  const std::vector<Var> inputs = {Var(random({segments, width}, 1)),  Var(random({segments, width}, 3, 1, -4)),
                                   Var(random({width, states}, 2)),    Var(random({segments, states}, 4)),
                                   Var(random({segments, states}, 5)), Var(random({width}, 6)),
                                   Var(random({segments, width}, 7)),  Var(random({segments, width, states}, 8))};
  const Segments layout = equal_segments(segments, segments);
  bench.op("scan step", str("S=", segments, " E=1536 N=16"), segments, inputs, [&](const std::vector<Var>& v) {
    return ops::selective_scan({v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7]}, layout, true).y;
  });
}

void conv(Bench& bench, int64_t tokens, int64_t segments, bool train_weight) {
  const int64_t width = 1536, taps = 4;
  const Tensor weight = random({width, taps}, 2), bias = random({width}, 3);
  const std::vector<Var> inputs = {Var::leaf(random({tokens, 2 * width}, 1)),
                                   train_weight ? Var::leaf(weight) : Var(weight),
                                   train_weight ? Var::leaf(bias) : Var(bias)};
  const Segments layout = equal_segments(tokens, segments);
  bench.op(train_weight ? "conv, weight trained," : "conv", str("T=", tokens, " S=", segments, " E=1536 K=4"), tokens,
           inputs, [&](const std::vector<Var>& v) {
             return ops::conv1d_silu(v[0].columns(0, width), v[1], v[2], Var(), layout, false).y;
           });
}

void rms_norm(Bench& bench, int64_t tokens) {
  const std::vector<Var> inputs = {Var::leaf(random({tokens, 768}, 1)), Var(random({768}, 2))};
  bench.op("rms_norm", str("T=", tokens, " D=768"), tokens, inputs,
           [](const std::vector<Var>& v) { return ops::rms_norm(v[0], v[1], 1e-5); });
}

}  // namespace
}  // namespace molt::bench

int main(int argc, char** argv) {
  molt::bench::Options options;
  for (int i = 1; i < argc; ++i) {
    if (!std::strcmp(argv[i], "--json")) {
      options.json = true;
    } else if (!std::strcmp(argv[i], "--seconds") && i + 1 < argc) {
      options.seconds = std::atof(argv[++i]);
    } else if (!std::strcmp(argv[i], "--threads") && i + 1 < argc) {
      molt::set_thread_count(std::atoi(argv[++i]));
    } else {
      options.filter = argv[i];
    }
  }
  molt::bench::Bench bench(options);
  molt::bench::scan(bench, 64, 1, false);
  molt::bench::scan(bench, 512, 1, false);
  molt::bench::scan(bench, 512, 1, true);
  molt::bench::scan(bench, 512, 16, false);
  molt::bench::scan_step(bench, 1);
  molt::bench::scan_step(bench, 16);
  molt::bench::conv(bench, 512, 1, false);
  molt::bench::conv(bench, 512, 1, true);
  molt::bench::conv(bench, 1, 1, false);
  molt::bench::rms_norm(bench, 512);
  return 0;
}
