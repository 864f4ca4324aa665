#include "molt/peft/prodial.h"

#include "molt/base/error.h"
#include "molt/ops/low_rank.h"
#include "molt/ops/products.h"
#include "molt/ops/rotate.h"
#include "molt/ops/scatter_entries.h"
#include "molt/peft/block_width.h"
#include "molt/peft/kaiming.h"
#include "molt/peft/output_scale.h"
#include "molt/peft/sizes.h"

namespace molt::peft {
namespace {

/// x' = D x with D = 1 + R, block by block. R is what trains, so that decay pulls D to the identity.
class BlockTransform final : public TargetEdit {
 public:
  BlockTransform(const nn::Target& target, int64_t wanted, Dtype dtype) : TargetEdit(target) {
    if (target.slice)
      usage_error("target_modules: ", target.label(),
                  " is a slice; prodial transforms the input, which belongs to the whole");
    const int64_t I = target.site->shape[1];
    size_ = nearest_divisor(I, wanted);
    std::vector<double> ones(static_cast<size_t>(I * size_), 0);
    for (int64_t i = 0; i < I; ++i) ones[static_cast<size_t>(i * size_ + i % size_)] = 1;
    identity_ = Tensor::from(ones, {I / size_, size_, size_}).to(dtype);
    R_ = Var::leaf(Tensor::zeros({I / size_, size_, size_}, dtype));
  }
  Var change_input(const nn::EditContext&, const Var& x) const override {
    return ops::block_rotate(x, ops::add_param(Var(identity_), R_));
  }
  // Stored so that x'[c] = Σ_k x[k] D[k, c]; the weight becomes W Dᵀ, block of columns by block.
  void merge(const nn::Site&, const Tensor& weight) const override {
    const NoGrad no_grad;
    const Tensor D = ops::add_param(Var(identity_), R_).value().to(weight.dtype());
    ops::multiply_blocks(weight.clone(), D, true, {weight, false});
  }
  Stage merge_stage() const override { return Stage::kInput; }
  std::vector<nn::Trainable> trainables() const override { return {{name_of("prodial_R"), R_}}; }
  void reset() override {
    Tensor r = R_.value();
    r.fill(0);
  }

 private:
  int64_t size_ = 0;
  Tensor identity_;
  Var R_;
};

/// B A x of the input as it came, behind the factors: neither the transform nor the factors touch it.
class LowRankBeside final : public TargetEdit {
 public:
  LowRankBeside(const nn::Target& target, int64_t r, double scale, uint64_t seed, Dtype dtype)
      : TargetEdit(target),
        scale_(scale),
        first_A_(kaiming({r, target.site->shape[1]}, dtype, seed, name_of("prodial_A"))),
        A_(Var::leaf(first_A_.clone())),
        B_(Var::leaf(Tensor::zeros({target.size(), r}, dtype))) {}
  Var change_output(const nn::EditContext& e, const Var& y) const override {
    return ops::low_rank(y, *e.input, A_, B_, scale_);
  }
  void merge(const nn::Site&, const Tensor& weight) const override {
    ops::multiply(false, false, scale_, B_.value().to(weight.dtype()), A_.value().to(weight.dtype()), {weight, true});
  }
  Stage merge_stage() const override { return Stage::kOutput; }
  std::vector<nn::Trainable> trainables() const override {
    return {{name_of("prodial_A"), A_}, {name_of("prodial_B"), B_}};
  }
  void reset() override {
    Tensor a = A_.value(), b = B_.value();
    a.copy_from(first_A_);
    b.fill(0);
  }

 private:
  double scale_;
  Tensor first_A_;
  Var A_, B_;
};

}  // namespace

Prodial::Prodial(Config config, uint64_t seed, Dtype dtype) : EditMethod(std::move(config), seed, dtype) {
  check_size("prodial: r", config_.r);
  if (config_.block_size < 1) usage_error("prodial: block_size must be at least 1, is ", config_.block_size);
}

void Prodial::attach(const nn::SiteTable& sites) {
  place(sites, config_.target_modules, {nn::SiteKind::kLinear},
        [&](const nn::Target& t) { return std::make_shared<BlockTransform>(t, config_.block_size, dtype_); });
  const std::vector<std::shared_ptr<TargetEdit>> transforms = edits_;
  const double scale = config_.lora_alpha / static_cast<double>(config_.r);
  for (const auto& edit : transforms) {
    edits_.push_back(std::make_shared<OutputScale>(edit->target(), "prodial_s", dtype_));
    edits_.push_back(std::make_shared<LowRankBeside>(edit->target(), config_.r, scale, seed_, dtype_));
  }
}

}  // namespace molt::peft
