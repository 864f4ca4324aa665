// Products of bf16 on Intel's matrix unit (AMX): a weight packed once into tiles, and the kernels that multiply by it.
// Stands before oneDNN's in the order of implementations: it takes f32 or bf16 activations as they lie and converts
// them while it packs them, adds to what is there, writes f32 or bf16, and takes a low-rank addition along in the same
// pass. Private to the device room.
#pragma once

#include <cstdint>
#include <memory>

#include "molt/device/matrix.h"
#include "molt/device/memory.h"

namespace molt::amx {

/// Whether this processor has AMX and AVX-512 with bf16, the system lets us use them and MOLT_SIMD does not forbid it.
bool available();

/// Activations (M,K) packed into tiles of 16 x 32 bf16: blocks of 32 rows (the last of 16 where that is enough), part
/// by part along K, in the order in which the kernel reads them.
class Rows {
 public:
  Rows() = default;
  Rows(int64_t rows, int64_t k);
  /// Packs x, f32 or bf16 with any row stride.
  static Rows pack(const ConstMatrix& x);
  /// One thread's share of packing; all shares are needed.
  void pack_share(const ConstMatrix& x, int64_t thread, int64_t threads) const;

  bool defined() const { return block_ != nullptr; }
  int64_t rows() const { return rows_; }
  int64_t k() const { return k_; }
  int64_t row_blocks() const { return (rows_ + 31) / 32; }
  int64_t steps() const { return (k_ + 31) / 32; }
  /// Long sums go part by part, so that the rows that are read again and again stay in the second-level cache.
  int64_t parts() const;
  int64_t part_begin(int64_t part) const { return steps() * part / parts(); }
  /// Tiles in a block of rows: 1 or 2 beside each other along the rows.
  int64_t tiles(int64_t block) const { return rows_ - block * 32 <= 16 ? 1 : 2; }
  /// The tiles of one block of rows and one part of K, step by step.
  bf16* at(int64_t part, int64_t block) const {
    const int64_t length = part_begin(part + 1) - part_begin(part);
    return static_cast<bf16*>(block_->data()) + (part_begin(part) * row_blocks() + block * length) * 1024;
  }

 private:
  int64_t rows_ = 0, k_ = 0;
  std::shared_ptr<Block> block_;
};

class Panels;

struct RunOptions {
  const float* bias = nullptr;  ///< N values
  bool accumulate = false;
  const Rows* more_rows = nullptr;      ///< with more_panels: a second, short product that is added, K at most 384
  const Panels* more_panels = nullptr;  ///< (K2,N)
};

/// The right factor (K,N) of x (M,K) · weights (K,N), in bf16. Padded to whole tiles with zeros.
class Panels {
 public:
  /// `lasting`: a model's weight, not a step's.
  Panels(int64_t k, int64_t n, bool lasting = false);
  /// Fills the copy: element (k,n) is plain[n * ld + k] where `transposed`, else plain[k * ld + n].
  void pack(const bf16* plain, bool transposed, int64_t ld);
  /// y = x · weights (+ bias) (+ more), or y += …; x and y f32 or bf16 with any row stride. Each number is summed in
  /// one order whatever the thread count.
  void run(const ConstMatrix& x, const Matrix& y, const RunOptions& options = {}) const;
  void run(const Rows& x, const Matrix& y, const RunOptions& options = {}) const;

  int64_t k() const { return k_; }
  int64_t n() const { return n_; }
  int64_t steps() const { return steps_; }
  size_t bytes() const { return block_->bytes(); }
  const bf16* data() const { return static_cast<const bf16*>(block_->data()); }
  /// Element (k,n) lies at data()[row_offset(k) + col_offset(n)].
  static int64_t row_offset(int64_t k) { return k / 32 * 1024 + k % 32 / 2 * 32 + k % 2; }
  int64_t col_offset(int64_t n) const { return n / 32 * steps_ * 1024 + n % 32 / 16 * 512 + n % 16 * 2; }

 private:
  void multiply(const ConstMatrix* plain, const Rows& x, const Matrix& y, const RunOptions& options) const;
  int64_t k_, n_;
  int64_t steps_;  // tiles along K
  std::shared_ptr<Block> block_;
};

/// out (N,R), or (R,N) where `turned`, = alpha · xᵀ · u with u (T,R) f32 and x (T,N) packed, or += where accumulate.
/// out is f32.
void multiply_transposed(const Rows& x, const ConstMatrix& u, double alpha, bool turned, const Matrix& out,
                         bool accumulate);

}  // namespace molt::amx
