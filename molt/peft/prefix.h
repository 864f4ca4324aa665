// Prefix tuning on state-space layers, also called affix tuning (Galim et al., 2025; Yoshimura et al., 2025): M learned
// rows stand before the input of every SSM layer of every segment, and their outputs are thrown away. A block that only
// looks back remembers them in its state alone (Proposition 1), so each layer is run over its M rows once per pass, and
// every segment starts from the state and the left context they leave: exactly the same, for M rows per layer whatever
// the batch.
#pragma once

#include <string>
#include <vector>

#include "molt/peft/edit_method.h"

namespace molt::peft {

struct PrefixConfig {
  static constexpr const char* kName = "prefix_tuning";
  static constexpr const char* kSummary = "learned rows before the input of every SSM layer (affix tuning)";
  int64_t num_virtual_tokens = 16;
  bool prefix_projection = false;
  int64_t encoder_hidden_size = 0;
  double init_std = 1;
  std::vector<std::string> target_modules = {"prefix"};

  template <class V>
  void visit(V& v) {
    v.field("num_virtual_tokens", num_virtual_tokens, "learned rows per layer");
    v.field("prefix_projection", prefix_projection,
            "train them through a network per layer (embedding, linear, tanh, linear), dropped afterwards");
    v.field("encoder_hidden_size", encoder_hidden_size, "the network's hidden width; 0: the model's width");
    v.field("init_std", init_std, "the rows start normal with this deviation, where there is no network");
    v.field("target_modules", target_modules, "which layers: prefix, or a regular expression for its path");
  }
};

class PrefixTuning final : public EditMethod<PrefixConfig> {
 public:
  PrefixTuning(PrefixConfig config, uint64_t seed, Dtype dtype);
  void attach(const nn::SiteTable& sites) override;
  std::vector<std::pair<std::string, Tensor>> adapter_state() const override;
  void load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) override;
};

}  // namespace molt::peft
