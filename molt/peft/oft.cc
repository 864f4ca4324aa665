#include "molt/peft/oft.h"

#include "molt/base/error.h"
#include "molt/ops/rotate.h"
#include "molt/peft/block_width.h"
#include "molt/peft/kept_value.h"

namespace molt::peft {
namespace {

class Rotation final : public TargetEdit {
 public:
  Rotation(const nn::Target& target, const OftConfig& c, Dtype dtype)
      : TargetEdit(target), terms_(c.use_cayley_neumann ? c.num_cayley_neumann_terms : 0) {
    if (target.slice)
      usage_error("target_modules: ", target.label(), " is a slice; oft rotates the input, which belongs to the whole");
    const int64_t I = target.site->shape[1];
    size_ = c.r > 0 ? I / nearest_divisor(I, c.r) : nearest_divisor(I, c.oft_block_size);
    v_ = Var::leaf(Tensor::zeros({c.block_share ? 1 : I / size_, size_ * (size_ - 1) / 2}, dtype));
  }
  Var change_input(const nn::EditContext& e, const Var& x) const override {
    return ops::block_rotate(x, kept_.get(e, [&] { return ops::cayley(v_, size_, terms_); }));
  }
  void refresh() override { kept_.changed(); }
  // x' = Σ_k x_k R[k, ·], so W x' = (W Rᵀ) x in each block of columns.
  void merge(const nn::Site&, const Tensor& weight) const override {
    const NoGrad no_grad;
    const Tensor R = ops::cayley(v_, size_, terms_).value().to(weight.dtype());
    ops::multiply_blocks(weight.clone(), R, true, {weight, false});
  }
  Stage merge_stage() const override { return Stage::kInput; }
  std::vector<nn::Trainable> trainables() const override { return {{name_of("oft_R"), v_}}; }
  std::vector<std::pair<std::string, Tensor>> tensors() const override { return {{"oft_R.weight", v_.value()}}; }

 private:
  int64_t size_ = 0, terms_;
  Var v_;
  KeptValue kept_;  // the blocks of Rot
};

}  // namespace

Oft::Oft(Config config, uint64_t seed, Dtype dtype) : EditMethod(std::move(config), seed, dtype) {
  if ((config_.r > 0) == (config_.oft_block_size > 0) || config_.r < 0 || config_.oft_block_size < 0)
    usage_error("oft: one of r and oft_block_size must be above 0 and the other 0, they are ", config_.r, " and ",
                config_.oft_block_size);
  if (config_.use_cayley_neumann && config_.num_cayley_neumann_terms < 2)
    usage_error("oft: num_cayley_neumann_terms must be at least 2, is ", config_.num_cayley_neumann_terms);
}

void Oft::attach(const nn::SiteTable& sites) {
  place(sites, config_.target_modules, {nn::SiteKind::kLinear}, [&](const nn::Target& t) {
    auto edit = std::make_shared<Rotation>(t, config_, dtype_);
    if (edit->trainables()[0].var.value().numel() == 0)
      usage_error("oft: ", t.site->path, " has ", t.site->shape[1], " inputs, which blocks wider than 1 do not divide");
    return edit;
  });
}

std::vector<MethodOptions> Oft::from_peft(const Json& config, const std::string& where) {
  refuse_set(config, {"exclude_modules", "modules_to_save", "coft", "layers_to_transform"}, where);
  if (text_in(config, "bias", where, "none") != "none") usage_error(where, ": bias is not \"none\"");
  if (!is_set(config, "target_modules")) usage_error(where, ": target_modules is missing");
  return {{OftConfig::kName, taken(config, {"r", "oft_block_size", "block_share", "use_cayley_neumann",
                                            "num_cayley_neumann_terms", "target_modules"})}};
}

Json Oft::peft_config() const {
  Json json = peft_base(kPeftType);
  json.update({{"r", config_.r},
               {"oft_block_size", config_.oft_block_size},
               {"block_share", config_.block_share},
               {"use_cayley_neumann", config_.use_cayley_neumann},
               {"num_cayley_neumann_terms", config_.num_cayley_neumann_terms},
               {"target_modules", whole_modules(edits_, OftConfig::kName)},
               {"module_dropout", 0.0},
               {"bias", "none"},
               {"fan_in_fan_out", false},
               {"init_weights", true},
               {"coft", false},
               {"modules_to_save", nullptr}});
  return json;
}

}  // namespace molt::peft
