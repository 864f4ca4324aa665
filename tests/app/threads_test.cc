// How many threads a user may ask for.
#include <gtest/gtest.h>

#include "molt/app/recipe.h"
#include "molt/base/error.h"
#include "molt/device/cpu_info.h"

namespace molt::app {
namespace {

TEST(Threads, AsManyAsAskedForWithinReason) {
  const int before = compute_threads();
  use_threads(3);
  EXPECT_EQ(compute_threads(), 3);
  EXPECT_THROW(use_threads(-1), UsageError);
  // libgomp aborts where the system gives it no more.
  EXPECT_THROW(use_threads(1'000'000), UsageError);
  EXPECT_THROW(use_threads(int64_t{1} << 32), UsageError) << "no number that would be cut to 0";
  EXPECT_EQ(compute_threads(), 3);
  set_compute_threads(before);
}

}  // namespace
}  // namespace molt::app
