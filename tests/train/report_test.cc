// The pages: what they show, that they need nothing else, that text stays text. Set MOLT_REPORT_DIR to keep the example
// pages for a look in a browser.
#include "molt/train/report.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "molt/base/file.h"
#include "tests/train/report_example.h"
#include "tests/train/temporary.h"

namespace molt::train {
namespace {

TEST(Report, ExamplePagesAreWritten) {
  TemporaryDirectory dir;
  const char* keep = std::getenv("MOLT_REPORT_DIR");
  const std::string where = keep ? keep : dir.path();
  write_file_atomic(where + "/report.html", report_page(example_report()));
  write_file_atomic(where + "/comparison.html", report_page(example_comparison()));
  EXPECT_GT(read_file(where + "/report.html").size(), 20000u);
}

}  // namespace
}  // namespace molt::train
