// The directions in which the inputs of a linear vary most, gathered batch by batch: what EVA starts from (Paischer et
// al., 2024).
#pragma once

#include <vector>

#include "molt/nn/edit.h"

namespace molt::peft {

/// Principal components of rows that come in portions, as scikit-learn and PEFT keep them: the leading `kept` ones so
/// far, each times its singular value, are taken on as rows; so is the way the mean has moved. Exact as long as no more
/// than `kept` directions vary. Rows are centred on their mean.
class IncrementalPca {
 public:
  explicit IncrementalPca(int64_t kept) : kept_(kept) {}
  /// rows (n, I), any n; f32 or f64, the same each time.
  void add(const Tensor& rows);
  int64_t rows_seen() const { return seen_; }
  /// The leading directions (k, I), of length 1, most important first, k ≤ `count`: those in which the rows vary at
  /// all. The largest entry of each is positive.
  Tensor directions(int64_t count) const;
  /// Of all variance of the rows, the share in each of the kept directions, most important first.
  std::vector<double> explained() const;

 private:
  int64_t kept_, seen_ = 0;
  double total_ = 0;          // Σ ‖row - mean‖²
  std::vector<double> mean_;  // (I)
  Tensor scaled_;             // (k, I): directions times singular values
};

/// An edit that changes nothing and hands the rows that have a label, or all where none has, to a PCA.
class InputObserver final : public nn::Edit {
 public:
  /// `kept` directions from portion to portion, values in `dtype`.
  InputObserver(int64_t kept, Dtype dtype) : pca_(kept), dtype_(dtype) {}
  Var change_input(const nn::EditContext& e, const Var& x) const override;
  std::vector<nn::Trainable> trainables() const override { return {}; }
  const IncrementalPca& pca() const { return pca_; }

 private:
  mutable IncrementalPca pca_;
  Dtype dtype_;
};

}  // namespace molt::peft
