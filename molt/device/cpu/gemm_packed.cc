// Frozen weights in the layouts of the kernels that multiply by them: our own tiles, oneDNN's, or rows as they lie.
#include <algorithm>

#include "molt/device/convert.h"
#include "molt/device/cpu/onednn_panel.h"
#include "molt/device/cpu/parallel.h"
#include "molt/device/cpu/scratch.h"
#include "molt/device/cpu/tile_gemm.h"
#include "molt/device/cpu/weight_rows.h"
#include "molt/device/gemm.h"
#include "molt/device/memory.h"

namespace molt {
namespace {

/// A weight in one direction, as the (K,N) factor of x (T,K) · weights (K,N): in our own tiles or in oneDNN's layout.
class Side {
 public:
  /// A weight of 8-bit integers in tiles.
  Side(int64_t k, int64_t n, bool transposed, int digits)
      : n_(n), transposed_(transposed), tiles_(std::make_unique<tiles::Panels>(k, n, digits)) {}
  /// bf16 in tiles, or f32 as oneDNN likes it. `transposed` says that W as stored is (N,K).
  Side(int64_t k, int64_t n, bool transposed, Dtype dtype, int64_t rows_hint) : n_(n), transposed_(transposed) {
    if (dtype == Dtype::kBf16)
      tiles_ = std::make_unique<tiles::Panels>(k, n, true);
    else
      panel_ = std::make_unique<onednn::Panel>(k, n, transposed, rows_hint);
  }

  void pack(const WeightRows& plain) {
    tiles_->pack(static_cast<const int8_t*>(plain.data()), transposed_, plain.scales());
  }
  /// Fills the packed copy from the plain weight, dense and of the packed type.
  void pack(const void* plain) {
    if (tiles_) return tiles_->pack(static_cast<const bf16*>(plain), transposed_, transposed_ ? tiles_->k() : n_);
    panel_->pack(static_cast<const float*>(plain));
  }

  /// y = x · weights + bias, or y += …, whatever the types and strides of x and y.
  void run(const ConstMatrix& x, const Matrix& y, const float* bias, bool accumulate) const {
    if (tiles_) return tiles_->run(x, y, {.bias = bias, .accumulate = accumulate});
    if (!y.dense() || y.dtype != Dtype::kF32) {
      const Scratch dense(y.rows, y.cols, Dtype::kF32);
      run(x, dense.view, bias, false);
      return accumulate ? convert_add(dense.view, y) : convert(dense.view, y);
    }
    if (x.dense() && x.dtype == Dtype::kF32) return panel_->run(x, y, bias, accumulate);
    const Scratch dense(x.rows, x.cols, Dtype::kF32);
    convert(x, dense.view);
    panel_->run(dense.view, y, bias, accumulate);
  }

  /// out = row `index` of W as stored, from the packed copy.
  template <class Out>
  void read_row(int64_t index, Out* out) const {
    const int64_t count = transposed_ ? (tiles_ ? tiles_->k() : panel_->k()) : n_;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t k = transposed_ ? i : index, n = transposed_ ? index : i;
      out[i] = static_cast<Out>(tiles_ ? tiles_->at(k, n) : panel_->at(k, n));
    }
  }

  const tiles::Panels* panels() const { return tiles_.get(); }
  std::string kernel_name(int64_t rows) const {
    const bool unit = tiles::unit_available();
    if (tiles_ && tiles_->digits() == 0)
      return unit ? "amx" : tiles::pairs_are_fast() ? "avx512_bf16" : "avx512_widened";
    if (tiles_) return str(unit ? "amx" : "vnni", "_int8x", tiles_->digits());
    return panel_->kernel_name(rows);
  }
  size_t bytes() const { return tiles_ ? tiles_->bytes() : panel_->bytes(); }

 private:
  int64_t n_;
  bool transposed_;
  std::unique_ptr<tiles::Panels> tiles_;  // where our own kernels run, or
  std::unique_ptr<onednn::Panel> panel_;  // oneDNN's
};

}  // namespace

struct PackedMatrix::Impl {
  int64_t outputs = 0, inputs = 0;
  Dtype compute = Dtype::kF32;  // what the caller asked for
  bool int8 = false, vocabulary = false, has_forward = false, has_backward = false;
  // One of these:
  std::unique_ptr<Side> forward, backward;
  std::unique_ptr<WeightRows> rows;
  std::shared_ptr<Block> plain;  // f64

  /// Operands of products where they are not 8-bit integers.
  Dtype operands() const { return compute != Dtype::kF32 && tiles::bf16_available() ? Dtype::kBf16 : Dtype::kF32; }

  /// 8-bit tiles, or wider ones where sums are too long for them.
  std::unique_ptr<Side> int8_side(int64_t k, int64_t n, bool transposed, int64_t rows_hint) const {
    if (k > tiles::Panels::kLongestInt8) return std::make_unique<Side>(k, n, transposed, operands(), rows_hint);
    const bool coarse = compute == Dtype::kI8 && (transposed || !vocabulary);
    return std::make_unique<Side>(k, n, transposed, coarse ? 1 : 2);
  }
  std::unique_ptr<Side> side(int64_t k, int64_t n, bool transposed, int64_t rows_hint) const {
    return int8 ? int8_side(k, n, transposed, rows_hint)
                : std::make_unique<Side>(k, n, transposed, operands(), rows_hint);
  }

  /// Settles how the weight is kept, and keeps it.
  void start(const ConstMatrix& weight, int64_t rows_hint) {
    const bool multiplied_narrow = int8 ? tiles::int8_available() : operands() == Dtype::kBf16;
    if (compute == Dtype::kF64) {
      plain = Block::allocate(Device::kCpu, static_cast<size_t>(outputs * inputs) * sizeof(double));
    } else if (!multiplied_narrow && (int8 || onednn::likes_plain_weights())) {
      const Dtype kept = int8 ? Dtype::kI8 : compute == Dtype::kF32 ? Dtype::kF32 : Dtype::kBf16;
      rows = std::make_unique<WeightRows>(weight, kept, true);
      return;
    } else {
      if (has_forward) forward = side(inputs, outputs, true, rows_hint);
      if (has_backward) backward = side(outputs, inputs, false, rows_hint);
    }
    pack(weight);
  }

  void pack_int8(const ConstMatrix& weight) {
    const WeightRows rounded(weight, Dtype::kI8, false);
    for (const std::unique_ptr<Side>* side : {&forward, &backward}) {
      if (!*side) continue;
      if ((*side)->panels() && (*side)->panels()->format() == tiles::Format::kInt8) {
        (*side)->pack(rounded);
        continue;
      }
      const std::unique_ptr<char[]> memory(new char[static_cast<size_t>(outputs * inputs) * dtype_size(operands())]);
      const Matrix wide{memory.get(), outputs, inputs, inputs, operands()};
      std::vector<float> row(static_cast<size_t>(inputs));
      for (int64_t o = 0; o < outputs; ++o) {
        rounded.read_row(o, row.data());
        convert(matrix_of(row.data(), 1, inputs), wide.row_range(o, 1));
      }
      (*side)->pack(static_cast<const void*>(memory.get()));
    }
  }

  void pack(const ConstMatrix& weight) {
    MOLT_CHECK(weight.rows == outputs && weight.cols == inputs, "gemm: a weight of (", weight.rows, ", ", weight.cols,
               ") for one of (", outputs, ", ", inputs, ")");
    if (rows) return rows->set(weight);
    if (compute == Dtype::kF64) {
      auto* const values = static_cast<double*>(plain->data());
      if (!int8) return convert(weight, matrix_of(values, outputs, inputs));
      const WeightRows rounded(weight, Dtype::kI8, false);
      for (int64_t o = 0; o < outputs; ++o) rounded.read_row(o, values + o * inputs);
      return;
    }
    if (int8) return pack_int8(weight);
    const Dtype packed = operands();
    const bool round = compute == Dtype::kBf16 && packed == Dtype::kF32 && weight.dtype != Dtype::kBf16;
    if (weight.dtype == packed && weight.dense() && !round) return pack_sides(weight.data);
    // Not from the pool: it would keep the memory of the largest weight for good.
    const std::unique_ptr<char[]> copy(new char[static_cast<size_t>(outputs * inputs) * dtype_size(packed)]);
    const Matrix dense{copy.get(), outputs, inputs, inputs, packed};
    if (round) {
      const std::unique_ptr<char[]> rounded(new char[static_cast<size_t>(outputs * inputs) * sizeof(bf16)]);
      const Matrix narrow{rounded.get(), outputs, inputs, inputs, Dtype::kBf16};
      convert(weight, narrow);
      convert(narrow, dense);
    } else {
      convert(weight, dense);
    }
    pack_sides(copy.get());
  }

  void pack_sides(const void* dense) {
    if (forward) forward->pack(dense);
    if (backward) backward->pack(dense);
  }

  void product_f64(const ConstMatrix& x, const Matrix& y, const double* bias, bool transposed, bool accumulate) const {
    MOLT_CHECK(x.dtype == Dtype::kF64 && y.dtype == Dtype::kF64, "gemm: an f64 weight needs f64 activations");
    const ConstMatrix w = matrix_of(static_cast<const double*>(plain->data()), outputs, inputs);
    gemm({.a = x, .b = w, .c = y, .trans_b = transposed, .beta = accumulate ? 1.0 : 0.0});
    if (bias)
      for (int64_t t = 0; t < y.rows; ++t) convert_add(matrix_of(bias, 1, outputs), y.row_range(t, 1));
  }

  template <class Out>
  void read_row_as(int64_t row, Out* out) const {
    if (compute == Dtype::kF64) {
      const double* in = static_cast<const double*>(plain->data()) + row * inputs;
      std::transform(in, in + inputs, out, [](double v) { return static_cast<Out>(v); });
    } else if (rows) {
      rows->read_row(row, out);
    } else {
      (forward ? *forward : *backward).read_row(row, out);
    }
  }

  template <class Id>
  void read(const Matrix& out, const Id& id) const {
    MOLT_CHECK(out.cols == inputs, "gemm: rows of ", inputs, " read into ", out.cols, " columns");
    for (int64_t i = 0; i < out.rows; ++i)
      MOLT_CHECK(id(i) >= 0 && id(i) < outputs, "gemm: row ", id(i), " of a weight with ", outputs, " rows");
    parallel_ranges(out.rows, 16, [&](int64_t begin, int64_t end) {
      std::vector<double> row(out.dtype == Dtype::kF32 ? 0 : static_cast<size_t>(inputs));
      for (int64_t i = begin; i < end; ++i) {
        const Matrix to = out.row_range(i, 1);
        if (out.dtype == Dtype::kF32) {
          read_row_as(id(i), static_cast<float*>(to.data));
        } else {
          read_row_as(id(i), row.data());
          convert(matrix_of(row.data(), 1, inputs), to);
        }
      }
    });
  }
};

PackedMatrix::~PackedMatrix() = default;
PackedMatrix::PackedMatrix(PackedMatrix&&) noexcept = default;
PackedMatrix& PackedMatrix::operator=(PackedMatrix&&) noexcept = default;

PackedMatrix::PackedMatrix(const ConstMatrix& weight, const PackOptions& options) : impl_(new Impl) {
  MOLT_CHECK(options.compute == Dtype::kF32 || options.compute == Dtype::kBf16 || options.compute == Dtype::kF64 ||
                 (options.compute == Dtype::kI8 && options.int8),
             "gemm: cannot compute in ", dtype_name(options.compute));
  MOLT_CHECK(options.forward || options.backward, "gemm: a weight packed for no direction");
  MOLT_CHECK(weight.rows > 0 && weight.cols > 0, "gemm: an empty weight");
  Impl& p = *impl_;
  p.outputs = weight.rows, p.inputs = weight.cols;
  p.compute = options.compute;
  p.int8 = options.int8, p.vocabulary = options.vocabulary;
  p.has_forward = options.forward, p.has_backward = options.backward;
  p.start(weight, options.rows_hint);
}

int64_t PackedMatrix::outputs() const { return impl_->outputs; }
int64_t PackedMatrix::inputs() const { return impl_->inputs; }
Dtype PackedMatrix::compute() const { return impl_->compute; }
bool PackedMatrix::int8() const { return impl_->int8; }
bool PackedMatrix::has_forward() const { return impl_->has_forward; }
bool PackedMatrix::has_backward() const { return impl_->has_backward; }

size_t PackedMatrix::bytes() const {
  return (impl_->plain ? impl_->plain->bytes() : 0) + (impl_->rows ? impl_->rows->bytes() : 0) +
         (impl_->forward ? impl_->forward->bytes() : 0) + (impl_->backward ? impl_->backward->bytes() : 0);
}

void PackedMatrix::forward(const ConstMatrix& x, const Matrix& y, const void* bias, bool accumulate) const {
  MOLT_CHECK(defined() && has_forward(), "gemm: the weight is not packed for forward products");
  MOLT_CHECK(x.cols == inputs() && y.cols == outputs() && x.rows == y.rows, "gemm: (", x.rows, ", ", x.cols,
             ") times the transpose of (", outputs(), ", ", inputs(), ") into (", y.rows, ", ", y.cols, ")");
  if (x.rows == 0) return;
  if (impl_->rows) return impl_->rows->forward(x, y, static_cast<const float*>(bias), accumulate);
  if (compute() != Dtype::kF64) return impl_->forward->run(x, y, static_cast<const float*>(bias), accumulate);
  impl_->product_f64(x, y, static_cast<const double*>(bias), true, accumulate);
}

void PackedMatrix::backward(const ConstMatrix& dy, const Matrix& dx, bool accumulate) const {
  MOLT_CHECK(defined() && has_backward(), "gemm: the weight is not packed for backward products");
  MOLT_CHECK(dy.cols == outputs() && dx.cols == inputs() && dy.rows == dx.rows, "gemm: (", dy.rows, ", ", dy.cols,
             ") times (", outputs(), ", ", inputs(), ") into (", dx.rows, ", ", dx.cols, ")");
  if (dy.rows == 0) return;
  if (impl_->rows) return impl_->rows->backward(dy, dx, accumulate);
  if (compute() != Dtype::kF64) return impl_->backward->run(dy, dx, nullptr, accumulate);
  impl_->product_f64(dy, dx, nullptr, false, accumulate);
}

void PackedMatrix::read_rows(int64_t begin, const Matrix& out) const {
  impl_->read(out, [begin](int64_t i) { return begin + i; });
}

void PackedMatrix::gather_rows(const int64_t* ids, const Matrix& out) const {
  impl_->read(out, [ids](int64_t i) { return ids[i]; });
}

void PackedMatrix::repack(const ConstMatrix& weight) { impl_->pack(weight); }

const tiles::Panels* PackedMatrix::panels(bool forward) const {
  const Side* side = !impl_ || !tiles::bf16_available() ? nullptr
                     : forward                          ? impl_->forward.get()
                                                        : impl_->backward.get();
  return side ? side->panels() : nullptr;
}

std::string PackedMatrix::kernel_name(int64_t rows, bool forward) const {
  if (compute() == Dtype::kF64) return "plain";
  if (impl_->rows) return str("f32 by rows of ", dtype_name(impl_->rows->kept()));
  return (forward ? impl_->forward : impl_->backward)->kernel_name(rows);
}

}  // namespace molt
