// Results of products that a first run over some rows leaves to a second one, which then need not multiply again: a
// product costs much and its result is small, while convolution and scan are cheap and what they save is large.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "molt/tensor/tensor.h"

namespace molt::nn {

/// Goals: the second run sees the first one's bits; what it has taken is let go with the tape. Both runs must be of the
/// same rows, edits and state, and the second comes once.
class Remembered {
 public:
  /// The first run: y (T, O) of the linear at a site, the memory itself. Who writes into it afterwards, as edits and
  /// the residual stream do, changes what is remembered.
  void keep(int site, const Tensor& y);
  /// The second run: the result, with all that was written into it; undefined where there is none.
  Tensor take(int site);
  /// Whether `y` is the memory that was taken last: what is to be written into it is there already.
  bool is_final(const Tensor& y) const { return last_.defined() && last_.raw() == y.raw(); }
  /// Of what waits for the second run, without what the pool rounds up.
  int64_t bytes() const;

 private:
  std::unordered_map<int, Tensor> results_;
  Tensor last_;
};

}  // namespace molt::nn
