// The selective scan's place on the tape: checks, shapes, what is saved.
#include "molt/ops/scan.h"

#include <utility>

namespace molt::ops {
namespace {

void check_shape(const char* name, const Tensor& t, const Shape& shape, Dtype dtype) {
  MOLT_CHECK(t.shape() == shape, "selective_scan: ", name, " is ", shape_str(t.shape()), ", expected ",
             shape_str(shape));
  MOLT_CHECK(t.dtype() == dtype, "selective_scan: ", name, " is ", dtype_name(t.dtype()), ", x is ", dtype_name(dtype));
}

}  // namespace

std::array<Tensor, 2> SelectiveScan::forward(const Needs& needs, const Tensor& x, const Tensor& dt, const Tensor& A_log,
                                             const Tensor& B, const Tensor& C, const Tensor& D, const Tensor& z,
                                             const Tensor& h0) {
  MOLT_CHECK(x.rank() == 2 && A_log.rank() == 2, "selective_scan: x is ", shape_str(x.shape()), ", A_log is ",
             shape_str(A_log.shape()));
  const int64_t tokens = x.dim(0), width = x.dim(1), states_per_channel = A_log.dim(1);
  const Shape state_shape = {segments->count(), width, states_per_channel};
  MOLT_CHECK(segments->tokens() == tokens, "selective_scan: segments cover ", segments->tokens(), " tokens, x has ",
             tokens);
  check_shape("dt", dt, x.shape(), x.dtype());
  check_shape("A_log", A_log, {width, states_per_channel}, x.dtype());
  check_shape("B", B, {tokens, states_per_channel}, x.dtype());
  check_shape("C", C, {tokens, states_per_channel}, x.dtype());
  if (D.defined()) check_shape("D", D, {width}, x.dtype());
  const bool narrow = z.defined() && z.dtype() == Dtype::kBf16 && x.dtype() == Dtype::kF32;
  if (z.defined()) check_shape("z", z, x.shape(), narrow ? Dtype::kBf16 : x.dtype());
  if (h0.defined()) check_shape("h0", h0, state_shape, x.dtype());

  ScanTensors tensors{x, dt, A_log.contiguous() ? A_log : A_log.clone(), B, C, D, z, h0, segments};
  Tensor y = x.like(x.shape(), narrow ? Dtype::kBf16 : x.dtype()), state;
  if (want_state) state = x.like(state_shape);
  scan_kernels.at(x.device()).forward(tensors, y, state, needs.any() ? &states : nullptr);
  if (needs.any()) in = std::move(tensors);
  return {y, state};
}

void SelectiveScan::backward(const std::array<Tensor, 2>& dy, Grads& d) const {
  ScanGrads grads;
  grads.dy = dy[0], grads.dstate = dy[1];
  GradOut* const outs[] = {&grads.dx, &grads.ddt, &grads.dA_log, &grads.dB,
                           &grads.dC, &grads.dD,  &grads.dz,     &grads.dh0};
  for (int i = 0; i < 8; ++i) {
    if (d.wants(i)) *outs[i] = d.out(i);
  }
  grads.A_log_rows = d.rows(2), grads.D_rows = d.rows(5);
  scan_kernels.at(in.x.device()).backward(in, states, grads);
}

ScanResult selective_scan(const ScanInputs& in, const Segments& segments, bool want_state) {
  auto [y, state] = record(SelectiveScan{std::make_shared<const Segments>(segments), want_state}, in.x, in.dt, in.A_log,
                           in.B, in.C, in.D, in.z, in.h0);
  return {std::move(y), std::move(state)};
}

}  // namespace molt::ops
