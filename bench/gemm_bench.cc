// Speed of matrix products at the shapes of one Mamba model (default: 130M): frozen weights forward and backward, and
// the low-rank products of LoRA.
//   gemm_bench [--tokens 512] [--rank 8] [--d_model 768] [--threads 2] [--cpu_time] [--json]
// Weights are held in several copies that together exceed the caches, as layers do. The best of a few passes is
// printed.
// --cpu_time divides by processor time over threads instead of wall time: steadier on a machine that others use.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <functional>
#include <vector>

#include "molt/base/rng.h"
#include "molt/device/convert.h"
#include "molt/device/cpu_info.h"
#include "molt/device/gemm.h"
#include "molt/device/memory.h"

namespace molt {
namespace {

struct Options {
  int64_t tokens = 512, rank = 8, d_model = 768, vocab = 50280;
  int threads = 0;
  bool cpu_time = false, json = false;
};

double seconds(bool cpu_time) {
  if (cpu_time) {
    timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec)) / compute_threads();
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Pooled memory with normal values.
struct Buffer {
  Buffer(int64_t rows, int64_t cols, Dtype dtype)
      : block(Block::allocate(Device::kCpu, static_cast<size_t>(rows * cols) * dtype_size(dtype))),
        view{block->data(), rows, cols, cols, dtype} {
    const Rng rng(static_cast<uint64_t>(rows * 31 + cols));
    std::vector<float> some(4096);
    for (size_t i = 0; i < some.size(); ++i) some[i] = 0.1f * static_cast<float>(rng.normal(i));
    std::vector<float> row(static_cast<size_t>(cols));
    for (int64_t r = 0; r < rows; ++r) {
      for (size_t i = 0; i < row.size(); ++i) row[i] = some[(static_cast<size_t>(r) * 13 + i) % some.size()];
      convert(matrix_of(row.data(), 1, cols), view.row_range(r, 1));
    }
  }
  std::shared_ptr<Block> block;
  Matrix view;
};

class Table {
 public:
  explicit Table(const Options& options) : options_(options) {}
  /// Times f, which does `flops` floating point operations and reads `bytes` of weights, per call.
  void row(const std::string& name, double flops, double bytes, const std::function<void()>& f) {
    f();
    double best = 1e30, spent = 0;
    for (int i = 0; i < 20 && (i < 3 || spent < 0.1); ++i) {
      const double start = seconds(options_.cpu_time);
      f();
      const double took = seconds(options_.cpu_time) - start;
      best = std::min(best, took), spent += took;
    }
    if (options_.json)
      std::printf("{\"name\": \"%s\", \"ms\": %.4f, \"gflops\": %.1f, \"weight_gb_s\": %.1f}\n", name.c_str(),
                  best * 1e3, flops / best * 1e-9, bytes / best * 1e-9);
    else
      std::printf("%-44s %9.3f ms %8.0f GFLOP/s %7.1f GB/s of weights\n", name.c_str(), best * 1e3, flops / best * 1e-9,
                  bytes / best * 1e-9);
    std::fflush(stdout);
  }

 private:
  Options options_;
};

void frozen(const Options& o, Table& table) {
  const int64_t d = o.d_model, e = 2 * d, r = (d + 15) / 16;
  struct Shape {
    const char* name;
    int64_t outputs, inputs;
  };
  struct Kept {
    const char* name;
    Dtype compute, activations;
    bool int8;
    double bytes;  // of a number of the weight
  };
  for (const Kept& kept : {Kept{"f32", Dtype::kF32, Dtype::kF32, false, 4},
                           {"bf16", Dtype::kBf16, Dtype::kBf16, false, 2},
                           {"int8, 16-bit operands", Dtype::kBf16, Dtype::kBf16, true, 1},
                           {"int8, 8-bit operands", Dtype::kI8, Dtype::kBf16, true, 1}})
    for (const Shape& s : {Shape{"in_proj", 2 * e, d},
                           {"x_proj", r + 32, e},
                           {"dt_proj", e, r},
                           {"out_proj", d, e},
                           {"head", o.vocab, d}}) {
      const double bytes = static_cast<double>(s.outputs * s.inputs) * kept.bytes;
      const size_t copies = std::max<size_t>(1, std::min<size_t>(24, static_cast<size_t>(64e6 / bytes)));
      const Dtype dtype = kept.activations;
      const Buffer plain(s.outputs, s.inputs, dtype);
      std::vector<PackedMatrix> weights;
      for (size_t i = 0; i < copies; ++i)
        weights.emplace_back(
            plain.view, PackOptions{.compute = kept.compute, .int8 = kept.int8, .vocabulary = s.outputs == o.vocab});
      for (const int64_t t : {o.tokens, int64_t{1}}) {
        const Buffer x(t, s.inputs, dtype), dy(t, s.outputs, dtype);
        const Buffer y(t, s.outputs, Dtype::kF32), dx(t, s.inputs, Dtype::kF32);
        const double n = static_cast<double>(copies), flops = 2.0 * static_cast<double>(t * s.outputs * s.inputs) * n;
        const std::string name = str(s.name, " T=", t, " ", kept.name, " x", copies);
        table.row(name + " forward", flops, bytes * n, [&] {
          for (const PackedMatrix& w : weights) w.forward(x.view, y.view);
        });
        table.row(name + " backward", flops, bytes * n, [&] {
          for (const PackedMatrix& w : weights) w.backward(dy.view, dx.view);
        });
      }
      const Buffer as_f32(s.outputs, s.inputs, Dtype::kF32);
      table.row(str(s.name, " repack from f32 to ", kept.name), 0, bytes, [&] { weights[0].repack(as_f32.view); });
    }
}

void low_rank(const Options& o, Table& table) {
  const int64_t t = o.tokens, r = o.rank, d = o.d_model, e = 2 * d;
  for (const Dtype dtype : {Dtype::kF32, Dtype::kBf16})
    for (const auto& [inputs, outputs] : {std::pair<int64_t, int64_t>{d, 2 * e}, {e, d}}) {
      const Buffer x(t, inputs, dtype), dy(t, outputs, dtype);
      const Buffer a(r, inputs, Dtype::kF32), b(outputs, r, Dtype::kF32), h(t, r, Dtype::kF32),
          y(t, outputs, Dtype::kF32);
      const Buffer dh(t, r, Dtype::kF32), dx(t, inputs, Dtype::kF32), da(r, inputs, Dtype::kF32),
          db(outputs, r, Dtype::kF32);
      const std::string name = str("lora ", inputs, ">", r, ">", outputs, " x ", dtype_name(dtype), " ");
      const double in = 2.0 * static_cast<double>(t * inputs * r), out = 2.0 * static_cast<double>(t * outputs * r);
      table.row(name + "h = x At", in, 0, [&] { gemm({.a = x.view, .b = a.view, .c = h.view, .trans_b = true}); });
      table.row(name + "y += h Bt", out, 0,
                [&] { gemm({.a = h.view, .b = b.view, .c = y.view, .trans_b = true, .beta = 1}); });
      table.row(name + "dh = dy B", out, 0, [&] { gemm({.a = dy.view, .b = b.view, .c = dh.view}); });
      table.row(name + "dB += dyt h", out, 0,
                [&] { gemm({.a = dy.view, .b = h.view, .c = db.view, .trans_a = true, .beta = 1}); });
      table.row(name + "dA += dht x", in, 0,
                [&] { gemm({.a = dh.view, .b = x.view, .c = da.view, .trans_a = true, .beta = 1}); });
      table.row(name + "dx += dh A", in, 0, [&] { gemm({.a = dh.view, .b = a.view, .c = dx.view, .beta = 1}); });
    }
}

void conversions(const Options& o, Table& table) {
  const Buffer wide(o.tokens, 4 * o.d_model, Dtype::kF32), narrow(o.tokens, 4 * o.d_model, Dtype::kBf16);
  const double bytes = static_cast<double>(o.tokens * 4 * o.d_model) * 6;
  table.row("f32 to bf16 (T, 4 d_model)", 0, bytes, [&] { convert(wide.view, narrow.view); });
  table.row("bf16 to f32 (T, 4 d_model)", 0, bytes, [&] { convert(narrow.view, wide.view); });
}

}  // namespace
}  // namespace molt

int main(int argc, char** argv) {
  molt::Options o;
  CLI::App app{"Speed of matrix products"};
  app.add_option("--tokens", o.tokens);
  app.add_option("--rank", o.rank);
  app.add_option("--d_model", o.d_model);
  app.add_option("--vocab", o.vocab);
  app.add_option("--threads", o.threads);
  app.add_flag("--cpu_time", o.cpu_time);
  app.add_flag("--json", o.json);
  CLI11_PARSE(app, argc, argv);
  if (o.threads > 0) molt::set_compute_threads(o.threads);
  const molt::CpuInfo info = molt::cpu_info();
  if (!o.json)
    std::printf("T = %ld, %d threads, products %s (oneDNN %s), kernels %s\n", static_cast<long>(o.tokens), info.threads,
                info.matmul.c_str(), info.onednn.c_str(), info.simd.c_str());
  molt::Table table(o);
  molt::low_rank(o, table);
  molt::conversions(o, table);
  molt::frozen(o, table);
}
