// The tensors of the base model. A frozen matrix lives only as its packed copies; a trained one as an f32 master that
// is packed again after each optimizer step; small tensors stay as they are.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "molt/autograd/var.h"
#include "molt/device/gemm.h"
#include "molt/tensor/tensor.h"

namespace molt::nn {

/// How weights are kept and products are computed.
struct Precision {
  /// Frozen weights: f32, bf16, or i8 (matrices in 8 bits with a factor per row, everything else in bf16); f64 for
  /// checks.
  Dtype base = Dtype::kF32;
  /// Operands of products: f32, bf16, or i8 where the base is (matrices that train are then multiplied in bf16); f64
  /// for checks.
  Dtype compute = Dtype::kF32;
  /// Residual stream, norms, scan, loss, trainables: f32 (f64 for checks).
  Dtype activation() const { return compute == Dtype::kF64 ? Dtype::kF64 : Dtype::kF32; }
  /// What frozen tensors are kept in that stand in no product.
  Dtype lookup() const { return base == Dtype::kI8 ? Dtype::kBf16 : base; }
  /// Whether rows of a table can be read from its packed copy, which then holds the same numbers.
  bool packed_lookup() const {
    return base == compute || base == Dtype::kI8 || (base == Dtype::kBf16 && compute == Dtype::kF32);
  }
};

struct Parameter {
  std::string path;  ///< the checkpoint's name
  Shape shape;
  int layer = -1;
  bool lookup = false;       ///< rows are gathered (embedding)
  bool product = false;      ///< stands in matrix products
  bool head = false;         ///< of which one gives logits
  bool decays = false;       ///< weight decay applies when trained
  bool ssm = false;          ///< one of the state-space part's parameters
  bool trained = false;      ///< decided before set()
  bool keep_source = false;  ///< decided before set(): `source` is wanted

  Var var;  ///< the value: always for small tensors, for matrices when trained, for tables unless `packed` holds the
            ///< same
  std::shared_ptr<PackedMatrix> packed;  ///< of a matrix, once set() ran
  Tensor source;                         ///< what set() was given, unrounded; a view of the file where it came from one

  /// Takes the checkpoint's values (any float dtype, `shape`), in the precision asked for. `dx`: the product towards
  /// the input will be needed.
  void set(const Tensor& source, const Precision& precision, bool dx);
  /// Packs the master again after it changed.
  void repack();

 private:
  void pack(const Tensor& values);
  Precision precision_;
  bool dx_ = true;
};

/// All parameters of a model in checkpoint order; addresses are stable.
using ParameterTable = std::deque<Parameter>;

}  // namespace molt::nn
