// Which instruction sets CPU kernels are compiled for: those of the device room.
#pragma once

#include "molt/device/cpu/simd.h"

/// Before a loop of constant length: unroll it, so that arrays of vectors it indexes stay in registers.
#define MOLT_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define MOLT_UNROLL(n) MOLT_PRAGMA(clang loop unroll_count(n))
#else
#define MOLT_UNROLL(n) MOLT_PRAGMA(GCC unroll n)
#endif
