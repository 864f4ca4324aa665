// Frozen weights in the layouts of the kernels that multiply by them: our own tiles, oneDNN's, or plain
// rows of 8-bit integers.
#include <algorithm>
#include <map>
#include <mutex>
#include <new>
#include <optional>
#include <tuple>

#include "molt/device/convert.h"
#include "molt/device/cpu/dnnl.h"
#include "molt/device/cpu/gemm_skinny.h"
#include "molt/device/cpu/int8_rows.h"
#include "molt/device/cpu/parallel.h"
#include "molt/device/cpu/scratch.h"
#include "molt/device/cpu/tile_gemm.h"
#include "molt/device/cpu_info.h"
#include "molt/device/gemm.h"
#include "molt/device/lasting_memory.h"
#include "molt/device/memory.h"

namespace molt {
namespace {

/// More shapes than this at once (prompts of every length) start the collection anew; oneDNN keeps its own cache below.
constexpr size_t kMaxPrimitives = 64;

/// Part of a weight in one direction, as the (K,N) factor of src (M,K) · weights (K,N).
class Panel {
 public:
  /// `plain_strides` are those of K and N in the plain weight.
  Panel(int64_t k, int64_t n, onednn::Dims plain_strides, Dtype dtype, int64_t rows_hint)
      : k_(k), n_(n), dtype_(dtype), plain_({k, n}, onednn::data_type(dtype), plain_strides) {
    const onednn::Product product{
        .m = std::max<int64_t>(rows_hint, 1), .k = k, .n = n, .src = dtype, .dst = Dtype::kF32};
    desc_ = onednn::matmul(product, onednn::Desc({k, n}, onednn::data_type(dtype), onednn::Tag::any)).weights_desc();
    if (!onednn::blocked_layout(desc_, layout_)) {
      desc_ = plain_;
      onednn::blocked_layout(desc_, layout_);
    }
    block_ = allocate_lasting(desc_.get_size());
    find_panels();
  }

  /// Fills the packed copy from the plain weight.
  void pack(const void* plain) {
    onednn::guarded("gemm: pack", [&] {
      dnnl::memory from(plain_, onednn::engine(), const_cast<void*>(plain));
      dnnl::memory to(desc_, onednn::engine(), block_->data());
      dnnl::reorder(from, to).execute(onednn::stream(), from, to);
      onednn::stream().wait();
    });
  }

  /// y = x · weights, all types as oneDNN takes them, rows dense.
  void run(const ConstMatrix& x, const Matrix& y, const void* bias, bool accumulate) const {
    if (panel_width_ > 0 && x.rows <= skinny::Panelled::kMostRows && y.dtype == Dtype::kF32)
      return skinny::run(skinny::Panelled{.m = x.rows,
                                          .n = n_,
                                          .k = k_,
                                          .a = static_cast<const float*>(x.data),
                                          .lda = x.ld,
                                          .b = static_cast<const float*>(block_->data()) + layout_.base,
                                          .width = panel_width_,
                                          .panel = panel_,
                                          .c = static_cast<float*>(y.data),
                                          .ldc = y.ld,
                                          .bias = static_cast<const float*>(bias),
                                          .accumulate = accumulate});
    const std::shared_ptr<const Ready> ready = prepare(x.rows, y.dtype, bias != nullptr, accumulate);
    onednn::guarded("gemm", [&] {
      const dnnl::engine& engine = onednn::engine();
      std::shared_ptr<Block> scratch;
      if (ready->scratch_bytes) scratch = Block::allocate(Device::kCpu, ready->scratch_bytes);
      std::unordered_map<int, dnnl::memory> arguments{{DNNL_ARG_SRC, {ready->src, engine, const_cast<void*>(x.data)}},
                                                      {DNNL_ARG_WEIGHTS, {desc_, engine, block_->data()}},
                                                      {DNNL_ARG_DST, {ready->dst, engine, y.data}}};
      if (bias) arguments.emplace(DNNL_ARG_BIAS, dnnl::memory(ready->bias, engine, const_cast<void*>(bias)));
      if (scratch) arguments.emplace(DNNL_ARG_SCRATCHPAD, dnnl::memory(ready->scratch, engine, scratch->data()));
      ready->primitive.execute(onednn::stream(), arguments);
      onednn::stream().wait();
    });
  }

  /// Where entries lie in data(): element (k,n) at layout().base + row[k] + col[n].
  const onednn::BlockedLayout& layout() const { return layout_; }
  const void* data() const { return block_->data(); }

  std::string kernel_name(int64_t rows) const {
    return onednn::matmul({.m = rows, .k = k_, .n = n_, .src = dtype_, .dst = Dtype::kF32}, desc_).impl_info_str();
  }
  size_t bytes() const { return block_->bytes(); }

 private:
  struct Ready {
    dnnl::matmul primitive;
    onednn::Desc src, dst, bias, scratch;
    size_t scratch_bytes;
  };

  /// Sees whether the layout is panels of whole vectors of f32, row by row: then few rows need not go through oneDNN,
  /// whose kernels for many rows reach two thirds of the memory's bandwidth.
  void find_panels() {
    if (dtype_ != Dtype::kF32) return;
    const auto& [base, row, col] = layout_;
    const int64_t width = k_ > 1 ? row[1] - row[0] : 0;
    if (width <= 0 || width % 16 != 0) return;
    const int64_t panel = n_ > width ? col[static_cast<size_t>(width)] : 0;
    for (int64_t k = 0; k < k_; ++k)
      if (row[static_cast<size_t>(k)] != k * width) return;
    for (int64_t n = 0; n < n_; ++n)
      if (col[static_cast<size_t>(n)] != n / width * panel + n % width) return;
    if (panel > 0 && panel < k_ * width) return;  // plain rows
    // The last panel is read as whole vectors.
    const int64_t end = base + (n_ - 1) / width * panel + k_ * width;
    if (static_cast<size_t>(end) * sizeof(float) <= desc_.get_size()) panel_width_ = width, panel_ = panel;
  }

  std::shared_ptr<const Ready> prepare(int64_t rows, Dtype dst, bool bias, bool accumulate) const {
    std::lock_guard lock(mutex_);
    const auto key = std::make_tuple(rows, dst, bias, accumulate);
    if (const auto found = ready_.find(key); found != ready_.end()) return found->second;
    if (ready_.size() >= kMaxPrimitives) ready_.clear();
    const auto pd = onednn::matmul(
        {.m = rows, .k = k_, .n = n_, .src = dtype_, .dst = dst, .bias = bias, .accumulate = accumulate}, desc_);
    return ready_[key] = onednn::guarded("gemm", [&] {
             return std::make_shared<const Ready>(Ready{dnnl::matmul(pd), pd.src_desc(), pd.dst_desc(), pd.bias_desc(),
                                                        pd.scratchpad_desc(), pd.scratchpad_desc().get_size()});
           });
  }

  int64_t k_, n_;
  Dtype dtype_;
  onednn::Desc plain_, desc_;
  onednn::BlockedLayout layout_;
  int64_t panel_width_ = 0, panel_ = 0;  // columns of a panel and from one to the next, where there are such
  std::shared_ptr<Block> block_;
  mutable std::mutex mutex_;
  mutable std::map<std::tuple<int64_t, Dtype, bool, bool>, std::shared_ptr<const Ready>> ready_;
};

/// oneDNN's bf16 kernels slow down to a third on long sums (the vocabulary, in the head's backward), because the left
/// operand no longer stays in the second-level cache. Such sums are split into products of at most kMaxTerms terms,
/// where there are columns enough to pay for the copies of the left operand.
constexpr int64_t kLongSum = 2048, kMaxTerms = 1024, kManyColumns = 256;

/// A weight in one direction: panels along K.
class Side {
 public:
  /// A weight of 8-bit integers in tiles.
  Side(int64_t k, int64_t n, bool transposed, int digits)
      : n_(n), transposed_(transposed), dtype_(Dtype::kI8), tiles_(std::make_unique<tiles::Panels>(k, n, digits)) {}
  /// `transposed` says that W as stored is (N,K).
  Side(int64_t k, int64_t n, bool transposed, Dtype dtype, int64_t rows_hint)
      : n_(n), transposed_(transposed), dtype_(dtype) {
    if (dtype == Dtype::kBf16 && tiles::bf16_available()) {
      tiles_ = std::make_unique<tiles::Panels>(k, n, true);
      return;
    }
    const bool split = dtype == Dtype::kBf16 && k > kLongSum && n >= kManyColumns;
    const int64_t parts = split ? (k + kMaxTerms - 1) / kMaxTerms : 1;
    const int64_t step = ((k + parts - 1) / parts + 63) / 64 * 64;
    const onednn::Dims strides = transposed ? onednn::Dims{1, k} : onednn::Dims{n, 1};
    for (int64_t begin = 0; begin < k; begin += step) {
      begins_.push_back(begin);
      panels_.push_back(std::make_unique<Panel>(std::min(step, k - begin), n, strides, dtype, rows_hint));
    }
    begins_.push_back(k);
  }

  void pack(const Int8Rows& plain) { tiles_->pack(plain.data(), transposed_, plain.scales()); }

  /// Fills the packed copy from the plain weight, dense and of the packed type.
  void pack(const void* plain) {
    if (tiles_) return tiles_->pack(static_cast<const bf16*>(plain), transposed_, transposed_ ? tiles_->k() : n_);
    for (size_t p = 0; p < panels_.size(); ++p)
      panels_[p]->pack(static_cast<const char*>(plain) +
                       static_cast<size_t>(begins_[p] * (transposed_ ? 1 : n_)) * dtype_size(dtype_));
  }

  /// y = x · weights + bias, or y += …, whatever the types and strides of x and y.
  void run(const ConstMatrix& x, const Matrix& y, const void* bias, bool accumulate) const {
    if (tiles_) return tiles_->run(x, y, {.bias = static_cast<const float*>(bias), .accumulate = accumulate});
    const bool summed_in_y = y.dense() && (y.dtype == Dtype::kF32 || (y.dtype == dtype_ && panels_.size() == 1));
    if (!summed_in_y) {
      const Scratch dense(y.rows, y.cols, Dtype::kF32);
      run(x, dense.view, bias, false);
      return accumulate ? convert_add(dense.view, y) : convert(dense.view, y);
    }
    std::optional<Scratch> dense;
    for (size_t p = 0; p < panels_.size(); ++p) {
      ConstMatrix part = x.col_range(begins_[p], begins_[p + 1] - begins_[p]);
      if (!part.dense() || part.dtype != dtype_) {
        dense.emplace(part.rows, part.cols, dtype_);
        convert(part, dense->view);
        part = dense->view;
      }
      panels_[p]->run(part, y, p == 0 ? bias : nullptr, accumulate || p > 0);
    }
  }

  /// out = row `index` of W as stored, from the packed copy.
  template <class Packed, class Out>
  void read_row(int64_t index, Out* out) const {
    if (tiles_) {
      if (transposed_)
        for (int64_t k = 0; k < tiles_->k(); ++k) out[k] = static_cast<Out>(tiles_->at(k, index));
      else
        for (int64_t n = 0; n < n_; ++n) out[n] = static_cast<Out>(tiles_->at(index, n));
      return;
    }
    for (size_t p = 0; p < panels_.size(); ++p) {
      const int64_t begin = begins_[p], end = begins_[p + 1];
      const onednn::BlockedLayout& layout = panels_[p]->layout();
      const auto* data = static_cast<const Packed*>(panels_[p]->data()) + layout.base;
      const auto copy = [&](const Packed* row, const std::vector<int64_t>& along, Out* to) {
        for (size_t i = 0; i < along.size(); ++i) to[i] = static_cast<Out>(static_cast<float>(row[along[i]]));
      };
      if (transposed_)
        copy(data + layout.col[static_cast<size_t>(index)], layout.row, out + begin);
      else if (index >= begin && index < end)
        copy(data + layout.row[static_cast<size_t>(index - begin)], layout.col, out);
    }
  }

  const tiles::Panels* panels() const { return tiles_.get(); }
  std::string kernel_name(int64_t rows) const {
    const bool unit = tiles::unit_available();
    if (tiles_ && tiles_->digits() == 0) return unit ? "amx" : "avx512_bf16";
    if (tiles_) return str(unit ? "amx" : "vnni", "_int8x", tiles_->digits());
    return panels_[0]->kernel_name(rows);
  }
  size_t bytes() const {
    size_t sum = tiles_ ? tiles_->bytes() : 0;
    for (const auto& panel : panels_) sum += panel->bytes();
    return sum;
  }

 private:
  int64_t n_;
  bool transposed_;
  Dtype dtype_;
  std::unique_ptr<tiles::Panels> tiles_;  // where our own kernels run; otherwise oneDNN's panels along K:
  std::vector<std::unique_ptr<Panel>> panels_;
  std::vector<int64_t> begins_;  // of each panel, and K
};

}  // namespace

struct PackedMatrix::Impl {
  int64_t outputs = 0, inputs = 0;
  Dtype compute = Dtype::kF32;  // what the caller asked for
  Dtype packed = Dtype::kF32;   // type of the packed copies
  bool int8 = false, vocabulary = false, has_forward = false, has_backward = false;
  std::unique_ptr<Side> forward, backward;  // none under f64
  std::unique_ptr<Int8Rows> rows;           // 8-bit integers where nothing multiplies them: instead of sides
  std::shared_ptr<Block> plain;             // f64 only

  /// 8-bit tiles, or wider ones where sums are too long for them.
  std::unique_ptr<Side> int8_side(int64_t k, int64_t n, bool transposed, int64_t rows_hint) const {
    if (k > tiles::Panels::kLongestInt8) return std::make_unique<Side>(k, n, transposed, packed, rows_hint);
    const bool coarse = compute == Dtype::kI8 && (transposed || !vocabulary);
    return std::make_unique<Side>(k, n, transposed, coarse ? 1 : 2);
  }

  void pack_int8(const ConstMatrix& weight) {
    const bool stays = !forward && !backward;
    auto rounded = std::make_unique<Int8Rows>(weight, stays);
    if (stays) return void(rows = std::move(rounded));
    for (const std::unique_ptr<Side>* side : {&forward, &backward}) {
      if (!*side) continue;
      if ((*side)->panels() && (*side)->panels()->format() == tiles::Format::kInt8) {
        (*side)->pack(*rounded);
        continue;
      }
      const std::unique_ptr<char[]> memory(new char[static_cast<size_t>(outputs * inputs) * dtype_size(packed)]);
      const Matrix wide{memory.get(), outputs, inputs, inputs, packed};
      std::vector<float> row(static_cast<size_t>(inputs));
      for (int64_t o = 0; o < outputs; ++o) {
        rounded->read_row(o, row.data());
        convert(matrix_of(row.data(), 1, inputs), wide.row_range(o, 1));
      }
      (*side)->pack(static_cast<const void*>(memory.get()));
    }
  }

  void pack(const ConstMatrix& weight) {
    MOLT_CHECK(weight.rows == outputs && weight.cols == inputs, "gemm: a weight of (", weight.rows, ", ", weight.cols,
               ") for one of (", outputs, ", ", inputs, ")");
    if (compute == Dtype::kF64) {
      plain = Block::allocate(Device::kCpu, static_cast<size_t>(outputs * inputs) * sizeof(double));
      auto* const values = static_cast<double*>(plain->data());
      if (!int8) return convert(weight, matrix_of(values, outputs, inputs));
      const Int8Rows rounded(weight, false);
      for (int64_t o = 0; o < outputs; ++o) rounded.read_row(o, values + o * inputs);
      return;
    }
    if (int8) return pack_int8(weight);
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
      const Side& side = forward ? *forward : *backward;
      packed == Dtype::kBf16 ? side.read_row<bf16>(row, out) : side.read_row<float>(row, out);
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
  p.packed = p.compute == Dtype::kF32 || !bf16_supported() ? Dtype::kF32 : Dtype::kBf16;
  p.has_forward = options.forward, p.has_backward = options.backward;
  if (p.int8 && p.compute != Dtype::kF64) {
    const bool tiles = tiles::int8_available();
    if (tiles && options.forward) p.forward = p.int8_side(p.inputs, p.outputs, true, options.rows_hint);
    if (tiles && options.backward) p.backward = p.int8_side(p.outputs, p.inputs, false, options.rows_hint);
  } else if (p.compute != Dtype::kF64) {
    if (options.forward) p.forward = std::make_unique<Side>(p.inputs, p.outputs, true, p.packed, options.rows_hint);
    if (options.backward) p.backward = std::make_unique<Side>(p.outputs, p.inputs, false, p.packed, options.rows_hint);
  }
  p.pack(weight);
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
  if (impl_->rows) return impl_->rows->forward(x, y, static_cast<const float*>(bias), accumulate, impl_->packed);
  if (compute() != Dtype::kF64) return impl_->forward->run(x, y, bias, accumulate);
  impl_->product_f64(x, y, static_cast<const double*>(bias), true, accumulate);
}

void PackedMatrix::backward(const ConstMatrix& dy, const Matrix& dx, bool accumulate) const {
  MOLT_CHECK(defined() && has_backward(), "gemm: the weight is not packed for backward products");
  MOLT_CHECK(dy.cols == outputs() && dx.cols == inputs() && dy.rows == dx.rows, "gemm: (", dy.rows, ", ", dy.cols,
             ") times (", outputs(), ", ", inputs(), ") into (", dx.rows, ", ", dx.cols, ")");
  if (dy.rows == 0) return;
  if (impl_->rows) return impl_->rows->backward(dy, dx, accumulate, impl_->packed);
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
  if (impl_->rows) return str("int8 widened to ", dtype_name(impl_->packed));
  return (forward ? impl_->forward : impl_->backward)->kernel_name(rows);
}

}  // namespace molt
