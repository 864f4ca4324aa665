// Where an operation finds its kernels: one struct of function pointers per op and device, filled at start-up by the
// files that implement them. An absent backend is an absent file, never an #if.
#pragma once

#include "molt/base/error.h"
#include "molt/device/device.h"

namespace molt {

/// The kernels of one op, one entry per device. `Kernels` is a struct of function pointers.
template <class Kernels>
class KernelTable {
 public:
  explicit constexpr KernelTable(const char* op) : op_(op) {}

  /// The kernels for a device. Throws InternalError where no file registered any.
  const Kernels& at(Device device) const {
    MOLT_CHECK(has(device), op_, ": no kernels for ", device_name(device), " in this build");
    return kernels_[static_cast<int>(device)];
  }
  bool has(Device device) const { return present_[static_cast<int>(device)]; }
  bool set(Device device, const Kernels& kernels) {
    kernels_[static_cast<int>(device)] = kernels;
    return present_[static_cast<int>(device)] = true;
  }

 private:
  const char* op_;
  Kernels kernels_[kDeviceCount] = {};
  bool present_[kDeviceCount] = {};
};

}  // namespace molt

/// Registers an op's kernels for a device; stands at the foot of a `_cpu.cc` or `_cuda.cu`.
#define MOLT_KERNELS(table, device, ...) \
  [[maybe_unused]] static const bool table##_registered = (table).set(device, __VA_ARGS__)
