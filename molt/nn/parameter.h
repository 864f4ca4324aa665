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
  Dtype base = Dtype::kF32;     ///< frozen weights: f32 or bf16 (f64 for checks)
  Dtype compute = Dtype::kF32;  ///< operands of products: f32 or bf16 (f64 for checks)
  /// Residual stream, norms, scan, loss, trainables: f32 (f64 for checks).
  Dtype activation() const { return compute == Dtype::kF64 ? Dtype::kF64 : Dtype::kF32; }
};

struct Parameter {
  std::string path;  ///< the checkpoint's name
  Shape shape;
  int layer = -1;
  bool lookup = false;   ///< rows are gathered (embedding)
  bool product = false;  ///< stands in matrix products
  bool decays = false;   ///< weight decay applies when trained
  bool ssm = false;      ///< one of the state-space part's parameters
  bool trained = false;  ///< decided before set()

  Var var;  ///< the value: always for small tensors, for matrices when trained, for tables unless `packed` holds the
            ///< same
  std::shared_ptr<PackedMatrix> packed;  ///< of a matrix, once set() ran

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
