#include "molt/device/cpu/onednn_panel.h"

#include "molt/device/cpu/gemm_skinny.h"
#include "molt/device/lasting_memory.h"

namespace molt::onednn {
namespace {

/// More shapes than this at once (prompts of every length) start the collection anew; oneDNN keeps its own cache below.
constexpr size_t kMaxPrimitives = 64;

}  // namespace

/// A product of one number of rows.
struct Panel::Ready {
  dnnl::matmul primitive;
  Desc src, dst, bias, scratch;
  size_t scratch_bytes;
};

Panel::Panel(int64_t k, int64_t n, bool transposed, int64_t rows_hint)
    : k_(k), n_(n), plain_({k, n}, data_type(Dtype::kF32), transposed ? Dims{1, k} : Dims{n, 1}) {
  const Product product{.m = std::max<int64_t>(rows_hint, 1), .k = k, .n = n};
  desc_ = matmul(product, Desc({k, n}, data_type(Dtype::kF32), Tag::any)).weights_desc();
  if (!blocked_layout(desc_, layout_)) {
    desc_ = plain_;
    blocked_layout(desc_, layout_);
  }
  block_ = allocate_lasting(desc_.get_size());
  find_panels();
}

void Panel::pack(const float* plain) {
  guarded("gemm: pack", [&] {
    dnnl::memory from(plain_, engine(), const_cast<float*>(plain));
    dnnl::memory to(desc_, engine(), block_->data());
    dnnl::reorder(from, to).execute(stream(), from, to);
    stream().wait();
  });
}

void Panel::run(const ConstMatrix& x, const Matrix& y, const float* bias, bool accumulate) const {
  if (panel_width_ > 0 && x.rows <= skinny::Panelled::kMostRows)
    return skinny::run(skinny::Panelled{.m = x.rows,
                                        .n = n_,
                                        .k = k_,
                                        .a = static_cast<const float*>(x.data),
                                        .lda = x.ld,
                                        .b = values(),
                                        .width = panel_width_,
                                        .panel = panel_,
                                        .c = static_cast<float*>(y.data),
                                        .ldc = y.ld,
                                        .bias = bias,
                                        .accumulate = accumulate});
  const std::shared_ptr<const Ready> ready = prepare(x.rows, bias != nullptr, accumulate);
  guarded("gemm", [&] {
    std::shared_ptr<Block> scratch;
    if (ready->scratch_bytes) scratch = Block::allocate(Device::kCpu, ready->scratch_bytes);
    std::unordered_map<int, dnnl::memory> arguments{{DNNL_ARG_SRC, {ready->src, engine(), const_cast<void*>(x.data)}},
                                                    {DNNL_ARG_WEIGHTS, {desc_, engine(), block_->data()}},
                                                    {DNNL_ARG_DST, {ready->dst, engine(), y.data}}};
    if (bias) arguments.emplace(DNNL_ARG_BIAS, dnnl::memory(ready->bias, engine(), const_cast<float*>(bias)));
    if (scratch) arguments.emplace(DNNL_ARG_SCRATCHPAD, dnnl::memory(ready->scratch, engine(), scratch->data()));
    ready->primitive.execute(stream(), arguments);
    stream().wait();
  });
}

std::string Panel::kernel_name(int64_t rows) const {
  return matmul({.m = rows, .k = k_, .n = n_}, desc_).impl_info_str();
}

/// Sees whether the layout is panels of whole vectors, row by row: then few rows need not go through oneDNN, whose
/// kernels for many rows reach two thirds of the memory's bandwidth.
void Panel::find_panels() {
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

std::shared_ptr<const Panel::Ready> Panel::prepare(int64_t rows, bool bias, bool accumulate) const {
  std::lock_guard lock(mutex_);
  const auto key = std::make_tuple(rows, bias, accumulate);
  if (const auto found = ready_.find(key); found != ready_.end()) return found->second;
  if (ready_.size() >= kMaxPrimitives) ready_.clear();
  const auto pd = matmul({.m = rows, .k = k_, .n = n_, .bias = bias, .accumulate = accumulate}, desc_);
  return ready_[key] = guarded("gemm", [&] {
           return std::make_shared<const Ready>(Ready{dnnl::matmul(pd), pd.src_desc(), pd.dst_desc(), pd.bias_desc(),
                                                      pd.scratchpad_desc(), pd.scratchpad_desc().get_size()});
         });
}

}  // namespace molt::onednn
