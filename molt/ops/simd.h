// Which instruction sets CPU kernels are compiled for: those of the device room.
#pragma once

#include "molt/device/cpu/simd.h"
