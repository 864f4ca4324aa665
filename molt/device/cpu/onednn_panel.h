// A frozen f32 weight in the layout that oneDNN likes best for one direction, and products by it. Private to the device
// room.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>

#include "molt/device/cpu/dnnl.h"
#include "molt/device/memory.h"

namespace molt::onednn {

class Panel {
 public:
  /// The (K,N) factor of products of about `rows_hint` rows; `transposed` says that the plain weight is (N,K).
  Panel(int64_t k, int64_t n, bool transposed, int64_t rows_hint);

  /// Fills the packed copy from the plain weight, dense.
  void pack(const float* plain);
  /// y (T,N) = x (T,K) · weights + bias, or y += …; f32, rows dense.
  void run(const ConstMatrix& x, const Matrix& y, const float* bias, bool accumulate) const;

  int64_t k() const { return k_; }
  float at(int64_t k, int64_t n) const {
    return values()[layout_.row[static_cast<size_t>(k)] + layout_.col[static_cast<size_t>(n)]];
  }
  size_t bytes() const { return block_->bytes(); }
  std::string kernel_name(int64_t rows) const;

 private:
  struct Ready;

  const float* values() const { return static_cast<const float*>(block_->data()) + layout_.base; }
  void find_panels();
  std::shared_ptr<const Ready> prepare(int64_t rows, bool bias, bool accumulate) const;

  int64_t k_, n_;
  Desc plain_, desc_;
  BlockedLayout layout_;
  int64_t panel_width_ = 0, panel_ = 0;  // columns of a panel and from one to the next, where there are such
  std::shared_ptr<Block> block_;
  mutable std::mutex mutex_;
  mutable std::map<std::tuple<int64_t, bool, bool>, std::shared_ptr<const Ready>> ready_;
};

}  // namespace molt::onednn
