// Which device a tensor lives on.
#pragma once

namespace molt {

enum class Device { kCpu = 0, kCuda = 1 };
inline constexpr int kDeviceCount = 2;

/// "cpu" or "cuda".
constexpr const char* device_name(Device device) { return device == Device::kCpu ? "cpu" : "cuda"; }

}  // namespace molt
