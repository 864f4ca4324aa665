// General products: which kernel serves which shape.
#include "molt/device/gemm.h"

#include <algorithm>
#include <optional>

#include "molt/device/convert.h"
#include "molt/device/cpu/dnnl.h"
#include "molt/device/cpu/gemm_skinny.h"
#include "molt/device/cpu/parallel.h"
#include "molt/device/cpu/scratch.h"
#include "molt/device/cpu_info.h"

namespace molt {
namespace {

/// Up to here a dimension counts as small and our own kernels beat oneDNN's.
constexpr int64_t kSmall = 64;

/// A matrix as stored, and whether it is used transposed.
struct Operand {
  ConstMatrix m;
  bool transposed;
  /// Strides between rows and columns of op(M).
  int64_t row_stride() const { return transposed ? 1 : m.ld; }
  int64_t col_stride() const { return transposed ? m.ld : 1; }
};

struct Shape {
  int64_t m, n, k;
};

/// The operand in type `dtype`; `keep` owns the copy where one is made.
Operand as_type(const Operand& x, Dtype dtype, std::optional<Scratch>& keep) {
  if (x.m.dtype == dtype) return x;
  keep.emplace(x.m.rows, x.m.cols, dtype);
  convert(x.m, keep->view);
  return {keep->view, x.transposed};
}

template <class T>
void transpose_as(const ConstMatrix& from, const Matrix& to) {
  constexpr int64_t kBlock = 16;
  const T* in = static_cast<const T*>(from.data);
  T* out = static_cast<T*>(to.data);
  parallel_ranges((to.rows + kBlock - 1) / kBlock, std::max<int64_t>(1, (1 << 13) / (to.cols * kBlock)),
                  [&](int64_t begin, int64_t end) {
                    for (int64_t block = begin; block < end; ++block)
                      for (int64_t c = 0; c < to.cols; ++c)
                        for (int64_t r = block * kBlock; r < std::min((block + 1) * kBlock, to.rows); ++r)
                          out[r * to.ld + c] = in[c * from.ld + r];
                  });
}

/// to = fromᵀ; f32 or f64.
void transpose(const ConstMatrix& from, const Matrix& to) {
  to.dtype == Dtype::kF64 ? transpose_as<double>(from, to) : transpose_as<float>(from, to);
}

/// The operand (f32 or f64) so that op(M) lies row by row in memory.
Operand as_rows(const Operand& x, std::optional<Scratch>& keep) {
  if (!x.transposed) return x;
  keep.emplace(x.m.cols, x.m.rows, x.m.dtype);
  transpose(x.m, keep->view);
  return {keep->view, false};
}

/// c = alpha · from + beta · c for every element; `from` may be transposed on the way.
template <class T>
void combine(const Operand& from, const Matrix& c, double alpha, double beta) {
  const T* in = static_cast<const T*>(from.m.data);
  T* out = static_cast<T*>(c.data);
  const T a = static_cast<T>(alpha), b = static_cast<T>(beta);
  parallel_for(c.rows, std::max<int64_t>(1, (1 << 13) / std::max<int64_t>(c.cols, 1)), [&](int64_t r) {
    for (int64_t j = 0; j < c.cols; ++j) {
      const T value = in ? a * in[r * from.row_stride() + j * from.col_stride()] : T(0);
      T& to = out[r * c.ld + j];
      to = beta == 0 ? value : value + b * to;
    }
  });
}
void combine(const Operand& from, const Matrix& c, double alpha, double beta) {
  c.dtype == Dtype::kF64 ? combine<double>(from, c, alpha, beta) : combine<float>(from, c, alpha, beta);
}

/// C = alpha · A · B + beta · C by the kernel that runs along N.
void broadcast(const Shape& s, const Operand& a_in, const Operand& b, const Matrix& c, double alpha, double beta) {
  std::optional<Scratch> keep;
  const Operand a = as_type(a_in, c.dtype, keep);
  skinny::run(skinny::Broadcast{.m = s.m,
                                .n = s.n,
                                .k = s.k,
                                .a = a.m.data,
                                .a_row = a.row_stride(),
                                .a_col = a.col_stride(),
                                .b = b.m.data,
                                .ldb = b.m.ld,
                                .c = c.data,
                                .ldc = c.ld,
                                .alpha = alpha,
                                .beta = beta,
                                .dtype = c.dtype,
                                .b_dtype = b.m.dtype});
}

/// The same for a C of few columns, computed as Cᵀ = Bᵀ · Aᵀ where A lies transposed.
void broadcast_swapped(const Shape& s, const Operand& a, const Operand& b, const GemmArgs& args) {
  const Scratch ct(s.n, s.m, args.c.dtype);
  broadcast({s.n, s.m, s.k}, {b.m, !b.transposed}, {a.m, false}, ct.view, 1, 0);
  combine({ct.view, true}, args.c, args.alpha, args.beta);
}

/// C or Cᵀ by the kernel that runs along K: `large` (rows,K) as stored, `small` (columns,K).
void dot(const Shape& s, const Operand& large, const Operand& small_in, const GemmArgs& args, bool swapped) {
  std::optional<Scratch> typed, packed;
  const Operand small = as_rows(as_type(small_in, args.c.dtype, typed), packed);
  const Matrix& c = args.c;
  skinny::run(skinny::Dot{.m = swapped ? s.n : s.m,
                          .n = swapped ? s.m : s.n,
                          .k = s.k,
                          .a = large.m.data,
                          .lda = large.m.ld,
                          .b = small.m.data,
                          .ldb = small.m.ld,
                          .c = c.data,
                          .c_row = swapped ? 1 : c.ld,
                          .c_col = swapped ? c.ld : 1,
                          .alpha = args.alpha,
                          .beta = args.beta,
                          .dtype = c.dtype,
                          .a_dtype = large.m.dtype});
}

/// Our own kernels, whatever the shape; C has the type of the sums.
void own(const Shape& s, const GemmArgs& args) {
  const Operand a{args.a, args.trans_a}, b{args.b, args.trans_b};
  const bool few_columns = s.n <= kSmall && s.n < s.m, few_rows = s.m <= kSmall;
  if (few_columns && a.transposed) return broadcast_swapped(s, a, b, args);
  if (few_columns && (b.transposed || s.k > kSmall)) return dot(s, a, {b.m, !b.transposed}, args, false);
  if (!b.transposed) return broadcast(s, a, b, args.c, args.alpha, args.beta);
  if (few_rows && s.k >= 32) return dot(s, {b.m, false}, a, args, true);
  std::optional<Scratch> typed, packed;
  broadcast(s, a, as_rows(as_type(b, args.c.dtype, typed), packed), args.c, args.alpha, args.beta);
}

/// f32 by oneDNN, which reads strided and transposed operands as they are.
void large_f32(const Shape& s, const GemmArgs& args) {
  std::optional<Scratch> keep_a, keep_b;
  const Operand a = as_type({args.a, args.trans_a}, Dtype::kF32, keep_a);
  const Operand b = as_type({args.b, args.trans_b}, Dtype::kF32, keep_b);
  const dnnl_status_t status =
      dnnl_sgemm(a.transposed ? 'T' : 'N', b.transposed ? 'T' : 'N', s.m, s.n, s.k, static_cast<float>(args.alpha),
                 static_cast<const float*>(a.m.data), a.m.ld, static_cast<const float*>(b.m.data), b.m.ld,
                 static_cast<float>(args.beta), static_cast<float*>(args.c.data), args.c.ld);
  MOLT_CHECK(status == dnnl_success, "gemm: oneDNN: status ", static_cast<int>(status));
}

/// bf16 operands by oneDNN.
void large_bf16(const Shape& s, const GemmArgs& args) {
  if (args.alpha != 1 || (args.beta != 0 && args.beta != 1) || !args.c.dense()) {
    const Scratch product(s.m, s.n, Dtype::kF32);
    GemmArgs plain = args;
    plain.c = product.view, plain.alpha = 1, plain.beta = 0;
    large_bf16(s, plain);
    return combine({product.view, false}, args.c, args.alpha, args.beta);
  }
  onednn::multiply_bf16(
      {.m = s.m, .k = s.k, .n = s.n, .src = Dtype::kBf16, .dst = Dtype::kF32, .accumulate = args.beta == 1}, args.a,
      args.trans_a, args.b, args.trans_b, args.c.data);
}

}  // namespace

void gemm(const GemmArgs& args) {
  const Shape s{args.c.rows, args.c.cols, args.trans_a ? args.a.rows : args.a.cols};
  const ConstMatrix &a = args.a, &b = args.b;
  MOLT_CHECK((args.trans_a ? a.cols : a.rows) == s.m && (args.trans_b ? b.cols : b.rows) == s.k &&
                 (args.trans_b ? b.rows : b.cols) == s.n,
             "gemm: A (", a.rows, ", ", a.cols, ")", args.trans_a ? "ᵀ" : "", " · B (", b.rows, ", ", b.cols, ")",
             args.trans_b ? "ᵀ" : "", " into (", s.m, ", ", s.n, ")");
  const bool f64 = args.c.dtype == Dtype::kF64;
  const auto narrow = [](Dtype d) { return d == Dtype::kF32 || d == Dtype::kBf16; };
  MOLT_CHECK(f64 ? a.dtype == Dtype::kF64 && b.dtype == Dtype::kF64
                 : narrow(a.dtype) && narrow(b.dtype) && narrow(args.c.dtype),
             "gemm: no product of ", dtype_name(a.dtype), " and ", dtype_name(b.dtype), " into ",
             dtype_name(args.c.dtype));
  if (s.m == 0 || s.n == 0) return;
  if (args.c.dtype == Dtype::kBf16) {  // the sum is rounded once, at the end
    const Scratch wide(s.m, s.n, Dtype::kF32);
    GemmArgs in_f32 = args;
    in_f32.c = wide.view;
    if (args.beta != 0) convert(args.c, wide.view);
    gemm(in_f32);
    return convert(wide.view, args.c);
  }
  if (s.k == 0) return combine({{}, false}, args.c, 0, args.beta);
  if (f64 || std::min({s.m, s.n, s.k}) <= kSmall) return own(s, args);
  if (a.dtype == Dtype::kBf16 && b.dtype == Dtype::kBf16 && bf16_supported()) return large_bf16(s, args);
  large_f32(s, args);
}

}  // namespace molt
