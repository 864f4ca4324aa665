// Several runs side by side, on standard output.
#pragma once

#include "molt/train/report.h"

namespace molt::cli {

void print_comparison(const train::ComparisonReport& report);

}  // namespace molt::cli
