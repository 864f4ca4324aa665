// From here to amx_end-inl.h functions may use AMX and AVX-512: they must not be called elsewhere. Included once per
// source file, after every other header.
#ifdef MOLT_EMULATE_AMX
#include "molt/device/cpu/avx512_begin-inl.h"
#elif defined(__clang__)
#pragma clang attribute push(                                                                                       \
    __attribute__((target("amx-tile,amx-bf16,amx-int8,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni"))), \
    apply_to = function)
#else
#pragma GCC push_options
// GCC 12 takes the undefined operand inside its own intrinsics for a mistake of ours.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC target("amx-tile,amx-bf16,amx-int8,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni")
#endif
