// Fetching weights that a product reads once ahead of their use: the hardware's own look-ahead ends at each page.
#pragma once

namespace molt {

/// Whether lines come into the second-level cache first: AMD's processors have more of them on their way there than to
/// the first level.
bool fetches_to_second_level();

/// The two ways as types: kernels that asked at each line decoded up to a twentieth slower on Zen 4.
struct FetchToFirstLevel {
  static void line(const void* at) { __builtin_prefetch(static_cast<const char*>(at) + 4096, 0, 3); }
};
/// Not far ahead, as the hardware looks ahead too: 16 KB were a twentieth slower on Zen 4, a tenth where memory was
/// idle.
struct FetchToSecondLevel {
  static void line(const void* at) { __builtin_prefetch(static_cast<const char*>(at) + 2048, 0, 2); }
};

/// work(way) for this processor's way.
template <class Work>
void with_fetch(Work&& work) {
  fetches_to_second_level() ? work(FetchToSecondLevel()) : work(FetchToFirstLevel());
}

}  // namespace molt
