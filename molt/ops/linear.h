// The matrix product of a part with its weight: y = x · Wᵀ + b, W packed.
#pragma once

#include <memory>

#include "molt/autograd/tape.h"
#include "molt/device/gemm.h"

namespace molt::ops {

/// Inputs: x (T, I), the trained master W (O, I) or undefined for a frozen weight, b (O) or undefined.
struct Linear {
  static constexpr const char* kName = "linear";
  std::shared_ptr<const PackedMatrix> packed;
  Dtype out = Dtype::kF32;  // f32 or bf16; f64 where the weight is
  Tensor known{};           // y, where an earlier run has it
  Tensor x{};               // saved only if W trains

  Tensor forward(const Needs& needs, const Tensor& x_in, const Tensor& weight, const Tensor& bias);
  void backward(const Tensor& dy, Grads& d) const;
};

/// x (T, I) -> (T, O). `weight`: undefined unless W trains; `packed` must then hold its current values. `known`: the
/// result, if it is to be put on the tape only.
inline Var linear(const Var& x, std::shared_ptr<const PackedMatrix> packed, const Var& weight = {},
                  const Var& bias = {}, Dtype out = Dtype::kF32, const Tensor& known = {}) {
  return record(Linear{std::move(packed), out, known}, x, weight, bias);
}

}  // namespace molt::ops
