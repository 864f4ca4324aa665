// What SDT's sparse phase trains at one site: the edits behind peft/sdt.h.
#pragma once

#include <string>
#include <vector>

#include "molt/nn/edit.h"
#include "molt/ops/scatter_entries.h"
#include "molt/ops/sparse_columns.h"
#include "molt/ops/sparse_rows.h"

namespace molt::peft {

/// Chosen entries of A_log.
class SparseEntries final : public nn::Edit {
 public:
  SparseEntries(const nn::Site& site, std::vector<int64_t> entries, Dtype dtype)
      : name_(site.path + ".sdt_delta"),
        entries_(std::move(entries)),
        delta(Var::leaf(Tensor::zeros({static_cast<int64_t>(entries_.size())}, dtype))) {}
  Var change_param(const nn::EditContext&, const Var& p) const override {
    return ops::scatter_entries(p, delta, entries_);
  }
  void merge(const nn::Site&, const Tensor& weight) const override {
    const std::vector<double> change = delta.value().values();
    for (size_t i = 0; i < entries_.size(); ++i) {
      with_compute_type(weight.dtype(), [&](auto t) {
        weight.data<decltype(t)>()[entries_[i]] += static_cast<decltype(t)>(change[i]);
      });
    }
  }
  std::vector<nn::Trainable> trainables() const override { return {{name_, delta, false}}; }
  const std::vector<int64_t>& entries() const { return entries_; }

 private:
  std::string name_;
  std::vector<int64_t> entries_;

 public:
  Var delta;
};

/// Chosen columns of one slice of x_proj.
class SparseColumns final : public nn::Edit {
 public:
  SparseColumns(const nn::Target& target, IndexSet columns, Dtype dtype)
      : target_(target),
        columns_(make_index_set(std::move(columns))),
        delta(Var::leaf(Tensor::zeros({target.size(), static_cast<int64_t>(columns_->size())}, dtype))) {}
  Var add_to_output(const nn::EditContext&, const Var& x, const Var& y) const override {
    return ops::sparse_columns(y, x, delta, columns_, target_.begin());
  }
  void merge(const nn::Site&, const Tensor& weight) const override {
    const int64_t S = static_cast<int64_t>(columns_->size());
    const std::vector<double> change = delta.value().values();
    with_compute_type(weight.dtype(), [&](auto t) {
      using T = decltype(t);
      for (int64_t o = 0; o < target_.size(); ++o) {
        T* row = weight.data<T>() + (target_.begin() + o) * weight.ld();
        for (int64_t s = 0; s < S; ++s)
          row[(*columns_)[static_cast<size_t>(s)]] += static_cast<T>(change[static_cast<size_t>(o * S + s)]);
      }
    });
  }
  std::vector<nn::Trainable> trainables() const override { return {{target_.label() + ".sdt_delta", delta, false}}; }

 private:
  nn::Target target_;
  IndexSetPtr columns_;

 public:
  Var delta;
};

/// Chosen rows of a projection or a slice of one, stored as columns: delta (in,
/// |rows|).
class SparseRows final : public nn::Edit {
 public:
  SparseRows(const nn::Target& target, IndexSet rows, Dtype dtype)
      : target_(target),
        rows_(make_index_set(std::move(rows))),
        delta(Var::leaf(Tensor::zeros({target.site->shape[1], static_cast<int64_t>(rows_->size())}, dtype))) {}
  Var add_to_output(const nn::EditContext&, const Var& x, const Var& y) const override {
    return ops::sparse_rows(y, x, delta, rows_, target_.begin(), target_.size());
  }
  void merge(const nn::Site&, const Tensor& weight) const override {
    const int64_t S = static_cast<int64_t>(rows_->size());
    const std::vector<double> change = delta.value().values();
    with_compute_type(weight.dtype(), [&](auto t) {
      using T = decltype(t);
      for (int64_t s = 0; s < S; ++s) {
        T* row = weight.data<T>() + (target_.begin() + (*rows_)[static_cast<size_t>(s)]) * weight.ld();
        for (int64_t i = 0; i < weight.cols(); ++i) row[i] += static_cast<T>(change[static_cast<size_t>(i * S + s)]);
      }
    });
  }
  std::vector<nn::Trainable> trainables() const override { return {{target_.label() + ".sdt_delta", delta, true}}; }

 private:
  nn::Target target_;
  IndexSetPtr rows_;

 public:
  Var delta;
};

}  // namespace molt::peft
