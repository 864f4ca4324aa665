// BOFT (Liu et al., 2024): the input of a linear is rotated by a product of sparse rotations, a butterfly, which mixes
// blocks that OFT keeps apart; and its outputs get factors.
#pragma once

#include "molt/peft/edit_method.h"

namespace molt::peft {

struct BoftConfig {
  static constexpr const char* kName = "boft";
  static constexpr const char* kSummary = "butterflies of rotations of the input of linears (Liu et al., 2024)";
  int64_t boft_block_size = 4;
  int64_t boft_block_num = 0;
  int64_t boft_n_butterfly_factor = 1;
  std::vector<std::string> target_modules = {"in_proj", "x_proj", "out_proj"};

  template <class V>
  void visit(V& v) {
    v.field("boft_block_size", boft_block_size, "width of a block, which must divide the inputs; 0: by boft_block_num");
    v.field("boft_block_num", boft_block_num, "number of blocks; 0: by boft_block_size");
    v.field("boft_n_butterfly_factor", boft_n_butterfly_factor,
            "factors of the butterfly; each further one doubles how far inputs are mixed");
    v.field("target_modules", target_modules, "linears");
  }
};

/// y = s ∘ (W x') + b, x' = x M_{n−1} … M_0 (rows), M_i = P_i diag(R_i1, R_i2, …) P_iᵀ, each R_ij the Cayley transform
/// of a matrix's skew-symmetric part; P_i brings together halves of the blocks of width K that stand 2^(i − 1) apart
/// (P_0 = 1). All matrices start at 0, s at 1. Count: n · I · K + O per target (PEFT's, of which n · I (K − 1) / 2 + O
/// matter).
class Boft final : public EditMethod<BoftConfig> {
 public:
  Boft(Config config, uint64_t seed, Dtype dtype);
  void attach(const nn::SiteTable& sites) override;
  static constexpr const char* kPeftType = "BOFT";
  static std::vector<MethodOptions> from_peft(const Json& config, const std::string& where);
  Json peft_config() const override;
};

/// P_i of blocks of width K over n inputs: at which place each column stands for factor i.
std::vector<int64_t> butterfly_order(int64_t n, int64_t block_size, int64_t factor);

}  // namespace molt::peft
