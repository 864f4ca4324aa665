// State-offset tuning (Kang et al., 2025): after the scan, y_t += silu(z_t) · (C_t h') with a learned h' (E, N), as if
// every state were off by it while it is read. And output tuning: y_t += silu(z_t) · p with p (E).
#pragma once

#include <string>
#include <vector>

#include "molt/peft/edit_method.h"

namespace molt::peft {

struct StateOffsetConfig {
  static constexpr const char* kName = "state_offset";
  static constexpr const char* kSummary = "an offset of the state when it is read, or of the SSM's output";
  std::string offset = "h";
  int64_t r = 0;
  double init_std = 0;
  std::vector<std::string> target_modules = {"tap.y"};

  template <class V>
  void visit(V& v) {
    v.field("offset", offset, "h: of the state, silu(z) · (C h'); y: of the output, silu(z) · p (output tuning)");
    v.field("r", r, "0: the offset itself trains; above: two factors of this rank");
    v.field("init_std", init_std, "it starts normal with this deviation; with factors it starts at 0");
    v.field("target_modules", target_modules, "which layers: tap.y, or a regular expression for its path");
  }
};

class StateOffset final : public EditMethod<StateOffsetConfig> {
 public:
  StateOffset(StateOffsetConfig config, uint64_t seed, Dtype dtype);
  void attach(const nn::SiteTable& sites) override;
};

}  // namespace molt::peft
