// Prompt tuning (Lester et al., 2021): M learned embeddings stand before the tokens of every segment. The model looks
// back only, so they are run once per pass, and every segment starts from what they leave in each layer: exactly what M
// more tokens in front of each segment would do, while batches, labels and positions stay as they are.
#pragma once

#include <string>
#include <vector>

#include "molt/peft/edit_method.h"

namespace molt::peft {

struct PromptConfig {
  static constexpr const char* kName = "prompt_tuning";
  static constexpr const char* kSummary = "learned embeddings before the tokens of every sample";
  int64_t num_virtual_tokens = 16;
  std::string prompt_tuning_init = "RANDOM";

  template <class V>
  void visit(V& v) {
    v.field("num_virtual_tokens", num_virtual_tokens, "learned embeddings");
    v.field("prompt_tuning_init", prompt_tuning_init,
            "how they start: RANDOM (normal, deviation 1, as PEFT) or SAMPLE_VOCAB (embeddings of random tokens)");
  }
};

class PromptTuning final : public EditMethod<PromptConfig> {
 public:
  static constexpr const char* kPeftType = "PROMPT_TUNING";
  /// P-tuning trains the rows through a network, and saves rows.
  static constexpr const char* kAlsoPeftType = "P_TUNING";
  static std::vector<MethodOptions> from_peft(const Json& config, const std::string& where);

  PromptTuning(PromptConfig config, uint64_t seed, Dtype dtype);
  void attach(const nn::SiteTable& sites) override;
  /// PEFT's key has no module in it: `prompt_embeddings` (M, D).
  std::vector<std::pair<std::string, Tensor>> state() const override;
  void load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) override;
  Json peft_config() const override;

 private:
  int64_t layers_ = 0, width_ = 0;
};

}  // namespace molt::peft
