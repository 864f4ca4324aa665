// Training some entries of a parameter: the frozen base plus a change at chosen places (SDT on A_log, Galim et al.,
// 2025), or everywhere. Only rows that hold a chosen entry ask for a gradient, so whoever computes it may skip the
// rest.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "molt/autograd/tape.h"
#include "molt/device/kernel_table.h"

namespace molt::ops {

/// Places in a parameter of shape (E, …) with N entries per row, worked out once.
struct EntrySet {
  Shape shape;
  std::vector<int64_t> flat;  ///< e · N + n, in the order of the change's numbers; repeats allowed
  IndexSetPtr rows;           ///< the distinct e
};
using EntrySetPtr = std::shared_ptr<const EntrySet>;

/// Throws InternalError for a place outside `shape`.
EntrySetPtr make_entry_set(std::vector<int64_t> flat, const Shape& shape);

struct ScatterEntriesKernels {
  /// to[places[m]] += from[m], one after the other. `to` dense, `from` (M); f32 or f64.
  void (*scatter)(const Tensor& from, const std::vector<int64_t>& places, const Tensor& to) = nullptr;
  /// to[m] = (or +=) from[places[m]].
  void (*gather)(const Tensor& from, const std::vector<int64_t>& places, const GradOut& to) = nullptr;
};
inline constinit KernelTable<ScatterEntriesKernels> scatter_entries_kernels{"scatter_entries"};

struct ScatterEntries {
  static constexpr const char* kName = "scatter_entries";
  EntrySetPtr entries;
  IndexSetPtr wanted{};  // rows of the output that need a gradient; null: all

  Tensor forward(const Needs& needs, const Tensor& base, const Tensor& delta);
  void backward(const Tensor& dy, Grads& d) const;
  IndexSetPtr output_rows() const { return wanted; }
};

/// base (E, …) with base[entries[m]] += delta[m], delta (M) -> (E, …) in new memory, same dtype (f32 or f64).
inline Var scatter_entries(const Var& base, const Var& delta, EntrySetPtr entries) {
  return record(ScatterEntries{std::move(entries)}, base, delta);
}
inline Var scatter_entries(const Var& base, const Var& delta, std::vector<int64_t> flat) {
  return scatter_entries(base, delta, make_entry_set(std::move(flat), base.value().shape()));
}

struct AddParam {
  static constexpr const char* kName = "add_param";
  IndexSetPtr wanted{};

  Tensor forward(const Needs& needs, const Tensor& base, const Tensor& delta);
  void backward(const Tensor& dy, Grads& d) const;
  IndexSetPtr output_rows() const { return wanted; }
};

/// base + delta, same shape and dtype, in new memory.
inline Var add_param(const Var& base, const Var& delta) { return record(AddParam{}, base, delta); }

}  // namespace molt::ops
