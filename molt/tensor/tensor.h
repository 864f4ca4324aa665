// Tensors: values without history. Row-major; the last dimension is always dense, and a matrix may have a longer row
// stride (`ld`), so that named column slices of a fused projection are views, not copies.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "molt/device/dtype.h"
#include "molt/device/memory.h"

namespace molt {

using Shape = std::vector<int64_t>;

/// Product of the dimensions.
int64_t shape_numel(const Shape& shape);
/// "(3, 4)".
std::string shape_str(const Shape& shape);

class Tensor {
 public:
  Tensor() = default;

  /// Memory with unspecified content.
  static Tensor empty(Shape shape, Dtype dtype, Device device = Device::kCpu);
  static Tensor zeros(Shape shape, Dtype dtype, Device device = Device::kCpu);
  /// A read-only tensor over foreign memory (a mapped file) that `owner` keeps alive.
  static Tensor wrap(const void* data, Shape shape, Dtype dtype, std::shared_ptr<const void> owner);
  template <class T>
  static Tensor from(const std::vector<T>& values, Shape shape);

  bool defined() const { return block_ != nullptr; }
  const Shape& shape() const { return shape_; }
  Dtype dtype() const { return dtype_; }
  Device device() const { return block_ ? block_->device() : Device::kCpu; }
  int rank() const { return static_cast<int>(shape_.size()); }
  /// Size of dimension i; negative i counts from the end.
  int64_t dim(int i) const;
  int64_t numel() const { return shape_numel(shape_); }
  /// Everything but the last dimension, flattened; and the last one.
  int64_t rows() const { return shape_.empty() ? 1 : numel() / (shape_.back() ? shape_.back() : 1); }
  int64_t cols() const { return shape_.empty() ? 1 : shape_.back(); }
  /// Elements from the start of one row to the start of the next.
  int64_t ld() const { return ld_; }
  bool contiguous() const { return ld_ == cols() || rows() <= 1; }
  size_t bytes() const { return static_cast<size_t>(numel()) * dtype_size(dtype_); }

  template <class T>
  T* data() const {
    MOLT_CHECK(kDtypeOf<T> == dtype_ || sizeof(T) == 1, "tensor: read as ", dtype_name(kDtypeOf<T>), ", holds ",
               dtype_name(dtype_));
    return reinterpret_cast<T*>(raw());
  }
  /// First element, whatever its type.
  void* raw() const { return static_cast<char*>(block_ ? block_->data() : nullptr) + offset_; }
  /// How many tensors (views included) share this memory.
  long shared_count() const { return block_.use_count(); }

  /// New memory on the same device.
  Tensor like(Shape shape) const { return empty(std::move(shape), dtype_, device()); }
  Tensor like(Shape shape, Dtype dtype) const { return empty(std::move(shape), dtype, device()); }

  /// Views. Rows are counted over the first dimension; columns need a matrix.
  Tensor row_range(int64_t begin, int64_t count) const;
  Tensor col_range(int64_t begin, int64_t count) const;
  Tensor reshape(Shape shape) const;

  /// Copies: dense, of another dtype (values rounded to nearest), into existing memory.
  Tensor clone() const { return to(dtype_); }
  Tensor to(Dtype dtype) const;
  void copy_from(const Tensor& source);
  void fill(double value);
  /// this += source, element by element, same shape and dtype (f32 or f64).
  void add(const Tensor& source);
  void scale(double factor);

  /// Elements as doubles, dense order; for tests and small things.
  std::vector<double> values() const;

 private:
  std::shared_ptr<Block> block_;
  Shape shape_;
  int64_t ld_ = 0;
  size_t offset_ = 0;  // bytes
  Dtype dtype_ = Dtype::kF32;
};

template <class T>
Tensor Tensor::from(const std::vector<T>& values, Shape shape) {
  Tensor t = empty(std::move(shape), kDtypeOf<T>);
  MOLT_CHECK(static_cast<int64_t>(values.size()) == t.numel(), "tensor: ", values.size(), " values for shape ",
             shape_str(t.shape()));
  std::copy(values.begin(), values.end(), t.data<T>());
  return t;
}

}  // namespace molt
