// What a tensor does where the machine refuses.
#include "molt/tensor/tensor.h"

#include <gtest/gtest.h>

#include "molt/base/error.h"

namespace molt {
namespace {

TEST(Tensor, MoreThanThereIsMemorySaysHowMuchWasAsked) {
  try {
    Tensor::empty({int64_t{1} << 25, int64_t{1} << 20}, Dtype::kF32);  // 128 TiB
    ADD_FAILURE() << "was given";
  } catch (const SystemError& error) {
    EXPECT_NE(std::string(error.what()).find("memory: 134217728 MiB could not be allocated"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace molt
