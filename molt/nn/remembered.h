// What a first run over some rows leaves to a second one that follows for its gradients: results of products, which
// then need not be multiplied again (a product costs much and its result is small, while convolution and scan are cheap
// and what they save is large), and the residual stream below the lowest layer that trains, where the second run
// begins.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "molt/tensor/tensor.h"

namespace molt::nn {

/// Goals: the second run sees the first one's bits; what it has taken is let go with the tape. Both runs must be of the
/// same rows, edits and state, and the second comes once.
class Remembered {
 public:
  /// `lowest`: the lowest layer that trains (lowest_trained_layer()).
  explicit Remembered(int lowest = 0) : lowest_(lowest) {}
  int lowest() const { return lowest_; }

  /// The first run: y (T, O) of the linear at a site, the memory itself. Who writes into it afterwards, as edits and
  /// the residual stream do, changes what is remembered.
  void keep(int site, const Tensor& y);
  /// The same for memory of its own, into which nobody writes.
  void keep_copy(int site, const Tensor& y);
  /// The second run: the result, with all that was written into it; undefined where there is none. `final`: what the
  /// first run wrote into it later need not be written again.
  Tensor take(int site, bool final);
  /// Whether `y` is the memory that was taken last, and final.
  bool is_final(const Tensor& y) const { return last_.defined() && last_.raw() == y.raw(); }

  /// The same for h (T, D) that goes into layer lowest().
  void keep_stream(const Tensor& h) { stream_ = h; }
  Tensor take_stream();

  /// Of the pool, for what waits for the second run.
  int64_t bytes() const;
  /// Of these, after the first run, the copies: what nobody else holds.
  int64_t copied_bytes() const { return copied_; }

 private:
  int lowest_;
  int64_t copied_ = 0;
  std::unordered_map<int, Tensor> results_;
  Tensor last_, stream_;
};

}  // namespace molt::nn
