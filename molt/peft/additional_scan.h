// Additional scan (Yoshimura et al., 2025): k more states beside each layer's N. Their A is further columns of A_log,
// their B and C further rows of x_proj; only these train. The output is unchanged at the start, because the new rows of
// C are zero (as in the code of Kang et al., 2025: A a copy of the last state's, B kaiming uniform).
#pragma once

#include <string>
#include <vector>

#include "molt/peft/edit_method.h"

namespace molt::peft {

struct AdditionalScanConfig {
  static constexpr const char* kName = "additional_scan";
  static constexpr const char* kSummary = "further SSM states in every layer";
  int64_t extra_states = 8;
  std::vector<std::string> target_modules = {"A_log"};

  template <class V>
  void visit(V& v) {
    v.field("extra_states", extra_states, "states that are added");
    v.field("target_modules", target_modules, "which layers: A_log, or a regular expression for its path");
  }
};

class AdditionalScan final : public EditMethod<AdditionalScanConfig> {
 public:
  AdditionalScan(AdditionalScanConfig config, uint64_t seed, Dtype dtype);
  void attach(const nn::SiteTable& sites) override;
};

}  // namespace molt::peft
