// Golden cases: what transformers and peft computed on small random Mambas (tests/golden/README.md).
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "molt/autograd/tape.h"
#include "molt/base/json.h"
#include "molt/io/safetensors.h"
#include "molt/models/load.h"
#include "tests/cases/gradcheck.h"

namespace molt::testing {

inline std::string golden_dir(const std::string& name) {
  return std::string(MOLT_SOURCE_DIR) + "/tests/golden/mamba/" + name;
}

/// The token stream of a case, ready to run.
struct GoldenStream {
  std::vector<int32_t> ids, labels;
  Segments segments;
  std::vector<int64_t> rows;

  explicit GoldenStream(const io::SafetensorsFile& file) {
    for (const double v : file.tensor("tokens").values()) ids.push_back(static_cast<int32_t>(v));
    for (const double v : file.tensor("targets").values()) labels.push_back(static_cast<int32_t>(v));
    std::vector<int64_t> offsets;
    for (const double v : file.tensor("offsets").values()) offsets.push_back(static_cast<int64_t>(v));
    segments = Segments(offsets);
    for (size_t t = 0; t < ids.size(); ++t) rows.push_back(static_cast<int64_t>(t));
  }
};

/// Precision of a whole model in one word.
inline nn::Precision all_in(Dtype dtype) { return {dtype, dtype}; }

}  // namespace molt::testing
