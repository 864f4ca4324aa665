// CPU kernels of the selective scan; see scan_forward-inl.h, scan_step-inl.h and scan_backward-inl.h.
#include "molt/ops/scan.h"

#include "molt/ops/simd.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "molt/ops/scan_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "molt/ops/scan_backward-inl.h"
#include "molt/ops/scan_forward-inl.h"
#include "molt/ops/scan_step-inl.h"

HWY_BEFORE_NAMESPACE();
namespace molt::ops::HWY_NAMESPACE {
namespace {

template <class T, class S>
void forward_as(const ScanTensors& in, const Tensor& y, const Tensor& state, Tensor* saved) {
  if (!saved && single_tokens(in)) return step_typed<T, S>(in, y, state);
  forward_typed<T, S>(in, y, state, saved);
}

void forward(const ScanTensors& in, const Tensor& y, const Tensor& state, Tensor* saved) {
  if (y.dtype() == Dtype::kBf16) return forward_as<float, bf16>(in, y, state, saved);
  with_compute_type(in.x.dtype(), [&](auto t) { forward_as<decltype(t), decltype(t)>(in, y, state, saved); });
}
void backward(const ScanTensors& in, const Tensor& saved, const ScanGrads& grads) {
  if (in.z.defined() && in.z.dtype() == Dtype::kBf16) return backward_typed<float, bf16>(in, saved, grads);
  with_compute_type(in.x.dtype(), [&](auto t) { backward_typed<decltype(t), decltype(t)>(in, saved, grads); });
}

}  // namespace
}  // namespace molt::ops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace molt::ops {
namespace {
HWY_EXPORT(forward);
HWY_EXPORT(backward);
}  // namespace
MOLT_KERNELS(scan_kernels, Device::kCpu, {MOLT_BEST_TARGET(forward), MOLT_BEST_TARGET(backward)});
}  // namespace molt::ops
#endif
