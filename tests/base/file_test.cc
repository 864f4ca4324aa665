// Files read as a whole.
#include "molt/base/file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "molt/base/error.h"

namespace molt {
namespace {

TEST(ReadFile, RefusesWhatNobodyReadsAsAWhole) {
  const auto hole = std::filesystem::temp_directory_path() / ("molt_hole_" + std::to_string(::getpid()));
  std::ofstream(hole) << "{}";
  EXPECT_EQ(read_file(hole.string()), "{}");
  std::filesystem::resize_file(hole, uintmax_t{1} << 40);
  try {
    read_file(hole.string());
    ADD_FAILURE() << "read a terabyte";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("more than 1024 MiB"), std::string::npos) << error.what();
  }
  std::filesystem::remove(hole);
}

}  // namespace
}  // namespace molt
