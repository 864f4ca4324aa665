// Rows that are learned through a small network of their own: embedding -> linear -> tanh -> linear (Li and Liang,
// 2021). It makes them easier to train and says nothing more than the rows it writes, so it is dropped when training is
// over.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "molt/nn/edit.h"

namespace molt::peft {

class Reparameter {
 public:
  struct Options {
    int64_t rows = 0;    ///< M
    int64_t width = 0;   ///< W
    int64_t hidden = 0;  ///< H
    bool zero = false;   ///< the second linear starts at zero, and so do all rows
    uint64_t seed = 0;
    std::string name;  ///< of the rows; the network's tensors stand behind it
  };
  /// Embedding normal, linears uniform within ±1/sqrt(inputs), as torch starts them.
  Reparameter(Options options, Dtype dtype);

  /// (M, W)
  Var rows() const;
  /// The same as (W, M).
  Var columns() const;
  std::vector<nn::Trainable> trainables(bool decays) const;
  /// M W + H W + H + W H + W
  int64_t count() const;
  /// Draws the initial values again.
  void reset();

 private:
  Var hidden() const;  // (M, H)

  Options options_;
  Var embedding_, up_, up_bias_, down_, down_bias_;
};

}  // namespace molt::peft
