// Matrix products: frozen weights packed once, and general products for what trains.
// Goals: the layout the processor's product wants, made at load and never again; f32 and bf16 operands with f32 sums,
// f64 for gradient checks; strided operands; nothing taken from the system once a shape has been seen; the same bits
// for the same inputs, machine and thread count. Non-goals: batched products, sparse weights, choosing kernels by
// timing. Everything here computes on the CPU.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "molt/device/matrix.h"

namespace molt {
namespace tiles {
class Panels;
}

struct PackOptions {
  /// Type of the operands: f32, bf16 (sums in f32), f64; i8 where the weight is kept so: 8-bit activations.
  Dtype compute = Dtype::kF32;
  /// The weight is kept in 8 bits, with one factor per output: W[o,i] rounded to a multiple of max_i |W[o,i]| / 127.
  bool int8 = false;
  /// Outputs are words: what comes back is a softmax less one label, one large number and many small ones, of which 8
  /// bits would keep the label alone. It has 16.
  bool vocabulary = false;
  bool forward = true;      ///< packs for x · Wᵀ
  bool backward = true;     ///< packs for dy · W
  int64_t rows_hint = 512;  ///< T for which the layout is chosen; any T works
};

/// A weight W (O,I), O outputs and I inputs as in torch, in the layouts that its products want. Activations may be
/// f32 or bf16 (f64 under f64) whatever the compute type; they are converted in pooled memory on the way.
///
/// Where bf16 has no native support (bf16_supported()), a weight for bf16 is rounded so and multiplied in f32. Without
/// AVX-512 every weight lies as it is, once for both directions, in f32, or in bf16 where it is to be computed so,
/// and is widened on the way, piece by piece.
///
/// A weight of 8 bits multiplies, on a matrix unit or AVX-512 with VNNI, activations of 8 bits (compute i8; but 16 on
/// the way back through a vocabulary) or of 16 (any other), each row with a factor of its own; elsewhere it is widened
/// to f32 on the way, piece by piece. Under f64 it is widened once. Const members may be called from several threads.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  /// Copies `weight` (f32, f64, bf16 or f16, any row stride); it is not needed afterwards.
  PackedMatrix(const ConstMatrix& weight, const PackOptions& options);
  ~PackedMatrix();
  PackedMatrix(PackedMatrix&&) noexcept;
  PackedMatrix& operator=(PackedMatrix&&) noexcept;

  bool defined() const { return impl_ != nullptr; }
  int64_t outputs() const;
  int64_t inputs() const;
  Dtype compute() const;
  /// Whether the weight is kept in 8 bits.
  bool int8() const;
  /// Which directions can be computed.
  bool has_forward() const;
  bool has_backward() const;
  /// Memory of the packed copies.
  size_t bytes() const;

  /// y (T,O) = x (T,I) · Wᵀ + bias, or y += … . `bias` is O values of f32 (f64 under f64), or null.
  void forward(const ConstMatrix& x, const Matrix& y, const void* bias = nullptr, bool accumulate = false) const;
  /// dx (T,I) = dy (T,O) · W, or dx += … .
  void backward(const ConstMatrix& dy, const Matrix& dx, bool accumulate = false) const;

  /// out (n,I) = rows begin … begin+n of W as packed (rounded to the type it is kept in), in any floating type.
  void read_rows(int64_t begin, const Matrix& out) const;
  /// out row i = W row ids[i]. Throws InternalError for a row that is not there.
  void gather_rows(const int64_t* ids, const Matrix& out) const;
  /// Replaces the values by those of a weight of the same shape: a weight that trains whole, after each optimizer step.
  void repack(const ConstMatrix& weight);

  /// The kernel that serves T rows forward or backward, such as "brg:avx512_core_amx_bf16"; for benches and `doctor`.
  std::string kernel_name(int64_t rows, bool forward) const;

  /// For the device room's own fused products: the weight in tiles, or null where there is neither a matrix unit nor
  /// AVX-512 with bf16.
  const tiles::Panels* panels(bool forward) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

struct GemmArgs {
  ConstMatrix a;  ///< (M,K), or (K,M) where trans_a
  ConstMatrix b;  ///< (K,N), or (N,K) where trans_b
  Matrix c;       ///< (M,N)
  bool trans_a = false, trans_b = false;
  double alpha = 1;
  double beta = 0;  ///< 0 never reads C
};

/// C = alpha · op(A) · op(B) + beta · C. A and B are f32 or bf16 each (both bf16: products of bf16 where the processor
/// has them), C is f32 or bf16, sums are f32; or all three are f64. Where one of M, N, K is at most 64 (a low rank, a
/// single row) our own kernels run, which read the large operand once, and whose bits do not depend on the thread
/// count.
void gemm(const GemmArgs& args);

}  // namespace molt
