// Changes of an embedding that depend on the token: low-rank ones, and rows of their own for some tokens.
#pragma once

#include <cstdint>
#include <vector>

#include "molt/autograd/tape.h"

namespace molt::ops {

/// y[t] += scale · B A[:, ids[t]]. Inputs: y (T, D), A (R, V), B (D, R).
struct LowRankRows {
  static constexpr const char* kName = "low_rank_rows";
  double scale = 1;
  std::vector<int32_t> ids{};
  Tensor A{}, B{}, u{};  // u (T, R): columns of A

  Tensor forward(const Needs& needs, const Tensor& y, const Tensor& A_in, const Tensor& B_in);
  void backward(const Tensor& dy, Grads& d) const;
};

/// Writes into y's memory: the op that made y must not need its value again. So do those below.
inline Var low_rank_rows(const Var& y, const Var& A, const Var& B, std::vector<int32_t> ids, double scale) {
  return record(LowRankRows{scale, std::move(ids)}, y, A, B);
}

/// y[t] = rows[places[t]] where places[t] ≥ 0. Inputs: y (T, D), rows (n, D).
struct ReplaceRows {
  static constexpr const char* kName = "replace_rows";
  std::vector<int64_t> places{};
  Shape shape{};

  Tensor forward(const Needs& needs, const Tensor& y, const Tensor& rows);
  void backward(const Tensor& dy, Grads& d) const;
};

inline Var replace_rows(const Var& y, const Var& rows, std::vector<int64_t> places) {
  return record(ReplaceRows{std::move(places)}, y, rows);
}

/// y[:, columns[j]] = x · rows[j]: a head whose weight has other rows for some tokens. Inputs: y (T, V), x (T, D),
/// rows (n, D).
struct ReplaceLogits {
  static constexpr const char* kName = "replace_logits";
  std::vector<int64_t> columns{};
  Tensor x{}, rows{};

  Tensor forward(const Needs& needs, const Tensor& y, const Tensor& x_in, const Tensor& rows_in);
  void backward(const Tensor& dy, Grads& d) const;
};

inline Var replace_logits(const Var& y, const Var& x, const Var& rows, std::vector<int64_t> columns) {
  return record(ReplaceLogits{std::move(columns)}, y, x, rows);
}

}  // namespace molt::ops
