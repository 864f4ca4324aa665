// Products of bf16 or of 8-bit integers from tiles, by kernels of our own: a weight packed once, and activations packed
// on the way. The layout is that of Intel's matrix unit (AMX), which multiplies whole tiles; AVX-512 vectors multiply
// their lines where there is no unit, with bf16 and VNNI both formats, with VNNI alone integers. Stands before oneDNN's
// in the order of implementations: it takes f32 or bf16 activations as they lie and converts them while it packs them,
// adds to what is there, writes f32 or bf16, and takes a low-rank addition along in the same pass. Private to the
// device room.
//
// Weights of 8 bits meet activations of 8 bits: row t is a_t · h_t with whole numbers |h_t| <= 127, rounded to nearest
// and a_t from the row's largest magnitude. Where that is too coarse, a second digit l_t carries on where the first
// ends, a_t · (h_t + l_t / 254), and takes as long again: 16 bits in all. Sums of products are whole numbers, so they
// are exact; NaN or infinity in a row makes all of its results NaN, and a row below 2^-100 counts as zero.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "molt/device/matrix.h"
#include "molt/device/memory.h"

namespace molt::tiles {

/// Whether this processor has AMX and AVX-512 with bf16 and VNNI, the system lets us use them and MOLT_SIMD does not
/// forbid it.
bool unit_available();
/// Whether everything here runs: on the matrix unit, or on AVX-512 vectors with bf16 and VNNI.
bool bf16_available();
/// Whether the vectors' instruction for pairs of bf16 is the fast way to multiply them: twice as fast as f32 on AMD's
/// processors, and half as fast on Intel's (1.3 beside 5.3 instructions a nanosecond at 2.7 GHz), where the matrix unit
/// was meant for it. MOLT_BF16=pairs or widened says it instead, for tests.
bool pairs_are_fast();
/// Whether products of 8-bit integers run, for which AVX-512 with VNNI is enough: all that stands here about them then
/// works, additions of low rank apart, which are of bf16.
bool int8_available();

/// What a tile, 16 rows of 64 bytes, holds: 32 or 64 numbers along K.
enum class Format { kBf16, kInt8 };

/// Sums of one block of a result, 32 rows of 32.
constexpr int64_t kBlock = 32 * 32;

/// Activations (M,K) packed into tiles: blocks of 32 rows (the last of 16 where that is enough), part by part along K,
/// in the order in which the kernel reads them. Of 8-bit integers with two digits, a block is the first digits of 16
/// rows and below them the second ones.
class Rows {
 public:
  Rows() = default;
  /// `digits`: of 8 bits each, 1 or 2; 0 for bf16.
  Rows(int64_t rows, int64_t k, int digits = 0);
  /// Packs x, f32 or bf16 with any row stride, as bf16.
  static Rows pack(const ConstMatrix& x);
  /// One thread's share of packing; all shares are needed. `factors`: K numbers that columns of x are multiplied by, or
  /// null; for 8-bit integers only.
  void pack_share(const ConstMatrix& x, const float* factors, int64_t thread, int64_t threads) const;

  bool defined() const { return block_ != nullptr; }
  int64_t rows() const { return rows_; }
  int64_t k() const { return k_; }
  int digits() const { return digits_; }
  int64_t block_rows() const { return digits_ == 2 ? 16 : 32; }
  int64_t row_blocks() const { return (rows_ + block_rows() - 1) / block_rows(); }
  int64_t steps() const { return digits_ ? (k_ + 63) / 64 : (k_ + 31) / 32; }
  /// Long sums go part by part, so that the rows that are read again and again stay in the second-level cache.
  int64_t parts() const;
  int64_t part_begin(int64_t part) const { return steps() * part / parts(); }
  /// Tiles in a block of rows: 1 or 2 beside each other along the rows.
  int64_t tiles(int64_t block) const { return digits_ != 2 && rows_ - block * 32 <= 16 ? 1 : 2; }
  /// The tiles of one block of rows and one part of K, step by step; of any format, counted as bf16.
  bf16* at(int64_t part, int64_t block) const {
    const int64_t length = part_begin(part + 1) - part_begin(part);
    return static_cast<bf16*>(block_->data()) + (part_begin(part) * row_blocks() + block * length) * 1024;
  }
  /// a_t of every row, behind the tiles; for 8-bit integers.
  float* scales() const { return reinterpret_cast<float*>(at(0, 0) + steps() * row_blocks() * 1024); }

 private:
  void pack_bf16_share(const ConstMatrix& x, int64_t begin, int64_t end) const;
  /// Without the matrix unit digits have 128 added.
  void quantise_share(const ConstMatrix& x, const float* factors, int64_t begin, int64_t end) const;
  int64_t rows_ = 0, k_ = 0;
  int digits_ = 0;
  std::shared_ptr<Block> block_;
};

class Panels;

struct RunOptions {
  const float* bias = nullptr;  ///< N values
  bool accumulate = false;
  const Rows* more_rows = nullptr;      ///< with more_panels: a second, short product that is added, K at most 384
  const Panels* more_panels = nullptr;  ///< (K2,N)
};

/// The right factor (K,N) of x (M,K) · weights (K,N), in bf16 or 8-bit integers with a factor per row or column. Padded
/// to whole tiles with zeros.
class Panels {
 public:
  /// Longer sums of products of 8-bit integers might not fit into 32 bits.
  static constexpr int64_t kLongestInt8 = 131072;

  /// In bf16. `lasting`: a model's weight, not a step's.
  Panels(int64_t k, int64_t n, bool lasting = false);
  /// In 8-bit integers, a model's weight: activations get `digits` digits, 1 or 2. K at most kLongestInt8.
  Panels(int64_t k, int64_t n, int digits);
  /// Fills the copy: element (k,n) is plain[n * ld + k] where `transposed`, else plain[k * ld + n].
  void pack(const bf16* plain, bool transposed, int64_t ld);
  /// The same for integers in [-127, 127], dense: element (k,n) times scales[n] where `transposed`, else scales[k].
  void pack(const int8_t* plain, bool transposed, const float* scales);
  /// y = x · weights (+ bias) (+ more), or y += …; x and y f32 or bf16 with any row stride. Each number is summed in
  /// one order whatever the thread count.
  void run(const ConstMatrix& x, const Matrix& y, const RunOptions& options = {}) const;
  /// The same for x in bf16 tiles, where the weights are bf16 too.
  void run(const Rows& x, const Matrix& y, const RunOptions& options = {}) const;

  int64_t k() const { return k_; }
  int64_t n() const { return n_; }
  Format format() const { return digits_ ? Format::kInt8 : Format::kBf16; }
  int digits() const { return digits_; }
  /// Tiles along K.
  int64_t steps() const { return steps_; }
  size_t bytes() const {
    return block_->bytes() + (scales_.size() + column_scales_.size() + column_sums_.size()) * sizeof(float);
  }
  /// Tiles of any format, counted as bf16.
  const bf16* data() const { return static_cast<const bf16*>(block_->data()); }
  /// Factors of the columns, padded with zeros to a multiple of 32, where each column has one; else null.
  const float* column_scales() const { return column_scales_.empty() ? nullptr : column_scales_.data(); }
  /// Σ_k of the integers of each column, padded likewise.
  const int32_t* column_sums() const { return column_sums_.data(); }
  /// Factors of the rows, where each row has one; else null.
  const float* row_scales() const { return scales_.empty() ? nullptr : scales_.data(); }
  /// Element (k,n), its factor included.
  float at(int64_t k, int64_t n) const {
    const int64_t tile = n / 32 * steps_ * 2 + n % 32 / 16;
    if (digits_ == 0)
      return static_cast<float>(data()[(tile + k / 32 * 2) * 512 + k % 32 / 2 * 32 + n % 16 * 2 + k % 2]);
    const auto* bytes = reinterpret_cast<const int8_t*>(data()) + (tile + k / 64 * 2) * 1024;
    return static_cast<float>(bytes[k % 64 / 4 * 64 + n % 16 * 4 + k % 4]) *
           (scales_.empty() ? column_scales_[static_cast<size_t>(n)] : scales_[static_cast<size_t>(k)]);
  }

 private:
  void multiply(const ConstMatrix* plain, const Rows& x, const Matrix& y, const RunOptions& options) const;
  void few_bf16(const ConstMatrix& x, const Matrix& y, const float* bias, bool accumulate) const;
  void few_int8(const ConstMatrix& x, const Matrix& y, const float* bias, bool accumulate) const;
  int64_t k_, n_;
  int digits_ = 0;
  int64_t steps_;                              // tiles along K
  std::vector<float> scales_, column_scales_;  // of rows or of columns
  std::vector<int32_t> column_sums_;
  std::shared_ptr<Block> block_;
};

/// out (N,R), or (R,N) where `turned`, = alpha · xᵀ · u with u (T,R) f32 and x (T,N) packed, or += where accumulate.
/// out is f32.
void multiply_transposed(const Rows& x, const ConstMatrix& u, double alpha, bool turned, const Matrix& out,
                         bool accumulate);

}  // namespace molt::tiles
