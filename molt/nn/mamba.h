// The Mamba block (Gu and Dao, 2023, figure 3), in transformers' words.
#pragma once

#include "molt/nn/block.h"
#include "molt/nn/parts.h"

namespace molt::nn {

struct MambaConfig {
  int64_t d_model = 0;
  int64_t d_inner = 0;   ///< E
  int64_t d_state = 16;  ///< N
  int64_t d_conv = 4;    ///< K
  int64_t dt_rank = 0;   ///< R
  bool conv_bias = true;
  bool proj_bias = false;  ///< biases on in_proj and out_proj
};

class MambaMixer final : public Block {
 public:
  MambaMixer(const Scope& scope, const MambaConfig& config);
  Var forward(const Context& c, const Var& u, const BlockCarry* in, BlockCarry* out) const override;
  BlockCarry carry_after(const Context& c, const Var& u, const BlockCarry* in) const override;

 private:
  /// forward() without looking for a prefix. Where `want_y` is not set, only `out` is of interest.
  Var advance(const Context& c, const Var& u, const BlockCarry* in, BlockCarry* out, bool want_y) const;
  Var run(const Context& c, const Var& u, const BlockCarry* in, BlockCarry* out, bool want_y) const;
  /// Where every segment starts from if learned rows stand before them.
  BlockCarry after(const Context& c, const std::vector<Var>& prefixes) const;
  /// Whether nothing looks at or changes what flows between the parts, but edits that take it in bf16.
  bool taps_take_narrow(const Context& c) const;

  MambaConfig config_;
  Linear in_proj_;
  Conv conv1d_;
  Linear x_proj_, dt_proj_;
  Param A_log_, D_;
  Linear out_proj_;
  State conv0_, h0_;
  Prefix prefix_;
  Tap x_, z_, dt_, B_, C_, y_;
};

}  // namespace molt::nn
