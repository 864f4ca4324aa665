// Initial-state tuning (Galim et al., 2025, table 14; RWKV's state tuning): every segment starts from a learned state
// instead of zero. One scan, the state is its h0; optionally the convolution's left context is learned too.
#pragma once

#include <string>
#include <vector>

#include "molt/peft/edit_method.h"

namespace molt::peft {

struct InitialStateConfig {
  static constexpr const char* kName = "initial_state";
  static constexpr const char* kSummary = "what the SSM (and the convolution) remembers before the first token";
  std::vector<std::string> target_modules = {"h0"};
  int64_t encoder_hidden_size = 0;

  template <class V>
  void visit(V& v) {
    v.field("target_modules", target_modules, "states: h0 (the SSM's), conv0 (the convolution's)");
    v.field("encoder_hidden_size", encoder_hidden_size,
            "train the states through a network of this hidden width, dropped afterwards; 0: directly");
  }
};

class InitialState final : public EditMethod<InitialStateConfig> {
 public:
  InitialState(InitialStateConfig config, uint64_t seed, Dtype dtype);
  void attach(const nn::SiteTable& sites) override;
  std::vector<std::pair<std::string, Tensor>> adapter_state() const override;
  void load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) override;
};

}  // namespace molt::peft
