#include "molt/io/dense.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace molt::io {

void write_dense(const ByteSink& sink, const Tensor& t) {
  if (t.contiguous()) {
    sink(t.raw(), t.bytes());
    return;
  }
  const size_t row_bytes = static_cast<size_t>(t.cols()) * dtype_size(t.dtype());
  const size_t stride = static_cast<size_t>(t.ld()) * dtype_size(t.dtype());
  const int64_t rows = t.rows(), chunk = std::max<int64_t>(1, static_cast<int64_t>((1 << 20) / row_bytes));
  std::vector<char> buffer;
  for (int64_t r = 0; r < rows; r += chunk) {
    const int64_t count = std::min(chunk, rows - r);
    buffer.resize(static_cast<size_t>(count) * row_bytes);
    for (int64_t i = 0; i < count; ++i) {
      std::memcpy(buffer.data() + static_cast<size_t>(i) * row_bytes,
                  static_cast<const char*>(t.raw()) + static_cast<size_t>(r + i) * stride, row_bytes);
    }
    sink(buffer.data(), buffer.size());
  }
}

}  // namespace molt::io
