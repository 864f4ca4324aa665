// What the address sanitizer is told of memory that our own code hands out; nothing in other builds.
#pragma once

#include <cstddef>

#if MOLT_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#endif

namespace molt {

#if MOLT_ADDRESS_SANITIZER
/// Bytes behind a block that nobody may touch.
constexpr size_t kGuard = 4096;
inline void poison(const void* data, size_t bytes) { ASAN_POISON_MEMORY_REGION(data, bytes); }
inline void unpoison(const void* data, size_t bytes) { ASAN_UNPOISON_MEMORY_REGION(data, bytes); }
#else
constexpr size_t kGuard = 0;
inline void poison(const void*, size_t) {}
inline void unpoison(const void*, size_t) {}
#endif

}  // namespace molt
