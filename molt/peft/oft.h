// OFT (Qiu et al., 2023): the input of a linear is rotated, block by block, which keeps the angles between its rows.
#pragma once

#include "molt/peft/edit_method.h"

namespace molt::peft {

struct OftConfig {
  static constexpr const char* kName = "oft";
  static constexpr const char* kSummary = "block-wise rotations of the input of linears (Qiu et al., 2023)";
  int64_t r = 0;
  int64_t oft_block_size = 32;
  bool block_share = false;
  bool use_cayley_neumann = true;
  int64_t num_cayley_neumann_terms = 5;
  std::vector<std::string> target_modules = {"in_proj", "x_proj", "out_proj"};

  template <class V>
  void visit(V& v) {
    v.field("r", r, "number of blocks; 0: by oft_block_size");
    v.field("oft_block_size", oft_block_size, "width of a block (the nearest that divides the inputs); 0: by r");
    v.field("block_share", block_share, "one rotation for all blocks");
    v.field("use_cayley_neumann", use_cayley_neumann, "a series instead of the exact Cayley transform");
    v.field("num_cayley_neumann_terms", num_cayley_neumann_terms, "terms of the series");
    v.field("target_modules", target_modules, "linears");
  }
};

/// y = W R x with R block-diagonal, each block the Cayley transform of a skew-symmetric Q that starts at 0
/// (ops/rotate.h). Count: I / K · K (K − 1) / 2 per target, K the block's width; one block's where they are shared.
class Oft final : public EditMethod<OftConfig> {
 public:
  Oft(Config config, uint64_t seed, Dtype dtype);
  void attach(const nn::SiteTable& sites) override;
  static constexpr const char* kPeftType = "OFT";
  static std::vector<MethodOptions> from_peft(const Json& config, const std::string& where);
  Json peft_config() const override;
};

}  // namespace molt::peft
