#include "molt/peft/activation_pca.h"

#include <algorithm>
#include <cmath>

#include "molt/ops/cross_entropy.h"
#include "molt/peft/base_weight.h"

namespace molt::peft {
namespace {

constexpr int64_t kIterations = 8;  // of subspace iteration; exact where all directions are kept

std::vector<double> squared_lengths(const Tensor& rows) {
  const std::vector<double> values = rows.values();
  std::vector<double> sums(static_cast<size_t>(rows.rows()), 0);
  for (size_t i = 0; i < values.size(); ++i) sums[i / static_cast<size_t>(rows.cols())] += values[i] * values[i];
  return sums;
}

}  // namespace

void IncrementalPca::add(const Tensor& rows) {
  const int64_t n = rows.rows(), I = rows.cols();
  if (n == 0) return;
  std::vector<double> mean(static_cast<size_t>(I), 0);
  const std::vector<double> values = rows.values();
  for (size_t i = 0; i < values.size(); ++i) mean[i % mean.size()] += values[i] / static_cast<double>(n);

  // What was kept, the centred rows, and how far the means of both lie apart.
  const int64_t before = scaled_.defined() ? scaled_.rows() : 0, all = before + n + (seen_ > 0 ? 1 : 0);
  const Tensor stacked = Tensor::empty({all, I}, rows.dtype());
  if (before > 0) stacked.row_range(0, before).copy_from(scaled_);
  std::vector<double> centred(values);
  for (size_t i = 0; i < centred.size(); ++i) centred[i] -= mean[i % mean.size()];
  stacked.row_range(before, n).copy_from(Tensor::from(centred, {n, I}));
  const auto m = static_cast<double>(seen_), share = static_cast<double>(n);
  if (seen_ > 0) {
    std::vector<double> apart(mean.size());
    const double f = std::sqrt(m * share / (m + share));
    for (size_t i = 0; i < mean.size(); ++i) apart[i] = f * (mean_[i] - mean[i]);
    stacked.row_range(before + n, 1).copy_from(Tensor::from(apart, {1, I}));
    for (size_t i = 0; i < mean.size(); ++i) mean_[i] = (m * mean_[i] + share * mean[i]) / (m + share);
  } else {
    mean_ = mean;
  }
  seen_ += n;
  const std::vector<double> lengths = squared_lengths(stacked.row_range(before, all - before));
  for (const double length : lengths) total_ += length;

  // Rows of A are √σ v, since principal_pair shares singular values evenly; σ = ‖√σ v‖².
  const int64_t k = std::min({kept_, all, I});
  scaled_ = principal_pair(stacked, k, 1, kIterations, 0).first;
  const std::vector<double> sizes = squared_lengths(scaled_);
  for (int64_t r = 0; r < k; ++r) {
    Tensor row = scaled_.row_range(r, 1);
    row.scale(std::sqrt(sizes[static_cast<size_t>(r)]));
  }
}

std::vector<double> IncrementalPca::explained() const {
  if (!scaled_.defined() || total_ == 0) return {};
  std::vector<double> shares = squared_lengths(scaled_);
  for (double& share : shares) share /= total_;
  return shares;
}

Tensor IncrementalPca::directions(int64_t count) const {
  if (!scaled_.defined()) return Tensor();
  const std::vector<double> sizes = squared_lengths(scaled_), values = scaled_.values();
  const auto I = static_cast<size_t>(scaled_.cols());
  const double least = sizes[0] * (scaled_.dtype() == Dtype::kF64 ? 1e-24 : 1e-12);
  std::vector<double> out;
  int64_t k = 0;
  for (; k < std::min(count, scaled_.rows()) && sizes[static_cast<size_t>(k)] > least; ++k) {
    const auto first = values.begin() + static_cast<int64_t>(static_cast<size_t>(k) * I);
    const double largest = *std::max_element(first, first + static_cast<int64_t>(I),
                                             [](double a, double b) { return std::abs(a) < std::abs(b); });
    const double f = (largest < 0 ? -1 : 1) / std::sqrt(sizes[static_cast<size_t>(k)]);
    for (size_t i = 0; i < I; ++i) out.push_back(f * first[static_cast<int64_t>(i)]);
  }
  return k == 0 ? Tensor() : Tensor::from(out, {k, static_cast<int64_t>(I)}).to(scaled_.dtype());
}

Var InputObserver::change_input(const nn::EditContext& e, const Var& x) const {
  const std::vector<int32_t>* labels = e.run.labels;
  std::vector<int64_t> chosen;
  for (size_t t = 0; labels && t < labels->size(); ++t) {
    if ((*labels)[t] != ops::kIgnore) chosen.push_back(static_cast<int64_t>(t));
  }
  if (chosen.empty()) {
    pca_.add(x.value().to(dtype_));
    return x;
  }
  const Tensor rows = Tensor::empty({static_cast<int64_t>(chosen.size()), x.value().cols()}, dtype_);
  for (size_t i = 0; i < chosen.size(); ++i)
    rows.row_range(static_cast<int64_t>(i), 1).copy_from(x.value().row_range(chosen[i], 1));
  pca_.add(rows);
  return x;
}

}  // namespace molt::peft
