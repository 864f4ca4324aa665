#include "molt/tensor/tensor.h"

#include <algorithm>
#include <cstring>

#include "molt/base/error.h"
#include "molt/device/cpu/parallel.h"

namespace molt {
namespace {

constexpr int64_t kGrain = 1 << 15;  // elements below which a second thread costs more than it brings

template <class To, class From>
void convert_row(To* to, const From* from, int64_t n) {
  if constexpr (std::is_same_v<To, From>) {
    std::memcpy(to, from, static_cast<size_t>(n) * sizeof(To));
  } else if constexpr (std::is_same_v<From, double>) {
    for (int64_t i = 0; i < n; ++i) to[i] = static_cast<To>(static_cast<float>(from[i]));
  } else if constexpr (std::is_same_v<To, double> && std::is_integral_v<From>) {
    for (int64_t i = 0; i < n; ++i) to[i] = static_cast<double>(from[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] = static_cast<To>(static_cast<float>(from[i]));
  }
}

template <class F>
void with_any_type(Dtype dtype, F&& f) {
  switch (dtype) {
    case Dtype::kF32:
      return f(float{});
    case Dtype::kF64:
      return f(double{});
    case Dtype::kBf16:
      return f(bf16{});
    case Dtype::kF16:
      return f(f16{});
    case Dtype::kI32:
      return f(int32_t{});
    case Dtype::kI64:
      return f(int64_t{});
    case Dtype::kI8:
      return f(int8_t{});
    case Dtype::kU8:
      return f(uint8_t{});
  }
}

template <class T>
T* row_of(const Tensor& t, int64_t row) {
  return static_cast<T*>(t.raw()) + row * t.ld();
}

}  // namespace

int64_t shape_numel(const Shape& shape) {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

std::string shape_str(const Shape& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += str(i ? ", " : "", shape[i]);
  return text + ")";
}

Tensor Tensor::empty(Shape shape, Dtype dtype, Device device) {
  Tensor t;
  t.shape_ = std::move(shape);
  for (const int64_t d : t.shape_) MOLT_CHECK(d >= 0, "tensor: negative dimension in ", shape_str(t.shape_));
  t.dtype_ = dtype;
  t.ld_ = t.cols();
  t.block_ = Block::allocate(device, t.bytes());
  return t;
}

Tensor Tensor::zeros(Shape shape, Dtype dtype, Device device) {
  Tensor t = empty(std::move(shape), dtype, device);
  t.fill(0);
  return t;
}

Tensor Tensor::wrap(const void* data, Shape shape, Dtype dtype, std::shared_ptr<const void> owner) {
  Tensor t;
  t.shape_ = std::move(shape);
  t.dtype_ = dtype;
  t.ld_ = t.cols();
  t.block_ = Block::wrap(data, t.bytes(), std::move(owner));
  return t;
}

int64_t Tensor::dim(int i) const {
  if (i < 0) i += rank();
  MOLT_CHECK(i >= 0 && i < rank(), "tensor: dimension ", i, " of ", shape_str(shape_));
  return shape_[static_cast<size_t>(i)];
}

Tensor Tensor::row_range(int64_t begin, int64_t count) const {
  MOLT_CHECK(rank() >= 1 && begin >= 0 && count >= 0 && begin + count <= shape_[0], "tensor: rows ", begin, " to ",
             begin + count, " of ", shape_str(shape_));
  Tensor t = *this;
  t.shape_[0] = count;
  const int64_t stride = rank() == 2 ? ld_ : rank() == 1 ? 1 : numel() / std::max<int64_t>(shape_[0], 1);
  t.offset_ += static_cast<size_t>(begin * stride) * dtype_size(dtype_);
  if (rank() == 1) t.ld_ = count;
  return t;
}

Tensor Tensor::col_range(int64_t begin, int64_t count) const {
  MOLT_CHECK(rank() == 2 && begin >= 0 && count >= 0 && begin + count <= shape_[1], "tensor: columns ", begin, " to ",
             begin + count, " of ", shape_str(shape_));
  Tensor t = *this;
  t.shape_[1] = count;
  t.offset_ += static_cast<size_t>(begin) * dtype_size(dtype_);
  return t;
}

Tensor Tensor::reshape(Shape shape) const {
  MOLT_CHECK(contiguous() && shape_numel(shape) == numel(), "tensor: ", shape_str(shape_), " cannot become ",
             shape_str(shape));
  Tensor t = *this;
  t.shape_ = std::move(shape);
  t.ld_ = t.cols();
  return t;
}

Tensor Tensor::to(Dtype dtype) const {
  Tensor t = like(shape_, dtype);
  t.copy_from(*this);
  return t;
}

void Tensor::copy_from(const Tensor& source) {
  MOLT_CHECK(source.shape_ == shape_, "tensor: copy of ", shape_str(source.shape_), " into ", shape_str(shape_));
  const int64_t n = cols();
  with_any_type(dtype_, [&](auto to) {
    with_any_type(source.dtype_, [&](auto from) {
      using To = decltype(to);
      using From = decltype(from);
      if (contiguous() && source.contiguous()) {
        parallel_ranges(numel(), kGrain, [&](int64_t begin, int64_t end) {
          convert_row(row_of<To>(*this, 0) + begin, row_of<From>(source, 0) + begin, end - begin);
        });
        return;
      }
      parallel_for(rows(), std::max<int64_t>(1, kGrain / std::max<int64_t>(n, 1)),
                   [&](int64_t r) { convert_row(row_of<To>(*this, r), row_of<From>(source, r), n); });
    });
  });
}

void Tensor::fill(double value) {
  with_any_type(dtype_, [&](auto tag) {
    using T = decltype(tag);
    T element;
    if constexpr (std::is_same_v<T, double>) {
      element = value;
    } else {
      element = static_cast<T>(static_cast<float>(value));
    }
    parallel_for(contiguous() ? 1 : rows(), 64,
                 [&](int64_t r) { std::fill_n(row_of<T>(*this, r), contiguous() ? numel() : cols(), element); });
  });
}

void Tensor::add(const Tensor& source) {
  MOLT_CHECK(source.shape_ == shape_ && source.dtype_ == dtype_, "tensor: sum of ", shape_str(shape_), " ",
             dtype_name(dtype_), " and ", shape_str(source.shape_), " ", dtype_name(source.dtype_));
  with_compute_type(dtype_, [&](auto tag) {
    using T = decltype(tag);
    const bool dense = contiguous() && source.contiguous();
    const int64_t n = dense ? numel() : cols(), lines = dense ? 1 : rows();
    for (int64_t r = 0; r < lines; ++r) {
      T* to = row_of<T>(*this, r);
      const T* from = row_of<T>(source, r);
      parallel_ranges(n, kGrain, [=](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) to[i] += from[i];
      });
    }
  });
}

void Tensor::scale(double factor) {
  with_compute_type(dtype_, [&](auto tag) {
    using T = decltype(tag);
    for (int64_t r = 0; r < rows(); ++r) {
      T* to = row_of<T>(*this, r);
      for (int64_t i = 0; i < cols(); ++i) to[i] *= static_cast<T>(factor);
    }
  });
}

std::vector<double> Tensor::values() const {
  const Tensor wide = to(Dtype::kF64);
  return {wide.data<double>(), wide.data<double>() + wide.numel()};
}

}  // namespace molt
