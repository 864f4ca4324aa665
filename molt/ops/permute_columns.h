// Columns of an activation in another order: between the factors of a butterfly (BOFT).
#pragma once

#include <memory>
#include <vector>

#include "molt/autograd/tape.h"

namespace molt::ops {

using Order = std::shared_ptr<const std::vector<int64_t>>;

/// out[t, i] = x[t, order[i]]; or, `inverse`, out[t, order[i]] = x[t, i]. x (T, W), `order` a permutation of W.
struct PermuteColumns {
  static constexpr const char* kName = "permute_columns";
  Order order{};
  bool inverse = false;

  Tensor forward(const Needs&, const Tensor& x) const;
  void backward(const Tensor& dy, Grads& d) const;
};

inline Var permute_columns(const Var& x, Order order, bool inverse = false) {
  return record(PermuteColumns{std::move(order), inverse}, x);
}

}  // namespace molt::ops
