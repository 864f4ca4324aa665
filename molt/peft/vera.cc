#include "molt/peft/vera.h"

#include <algorithm>

#include "molt/base/error.h"
#include "molt/ops/vector_low_rank.h"
#include "molt/peft/foldable.h"
#include "molt/peft/kaiming.h"
#include "molt/peft/sizes.h"

namespace molt::peft {
namespace {

constexpr const char *kKeyA = "base_model.vera_A", *kKeyB = "base_model.vera_B";

class VeraEdit final : public TargetEdit, public Foldable {
 public:
  VeraEdit(const nn::Target& target, const Tensor& A, const Tensor& B, double d_initial)
      : TargetEdit(target), A_(A.col_range(0, target.site->shape[1])), B_(B.row_range(0, target.size())) {
    Tensor d = Tensor::empty({A.rows()}, A.dtype());
    d.fill(d_initial);
    d_ = Var::leaf(d);
    b_ = Var::leaf(Tensor::zeros({target.size()}, A.dtype()));
  }
  Var add_to_output(const nn::EditContext&, const Var& x, const Var& y) const override {
    return ops::vector_low_rank(y, x, Var(A_), d_, Var(B_), b_, 1, target_.begin());
  }
  std::vector<nn::LowRankTerm> folded() const override {
    return {{Var(scaled_rows(A_, d_.value().values())), Var(scaled_rows(B_, b_.value().values())), 1, target_.begin()}};
  }
  void merge(const nn::Site&, const Tensor& weight) const override { merge_terms(folded(), weight); }
  std::vector<nn::Trainable> trainables() const override {
    return {{name_of("vera_lambda_b"), b_, false}, {name_of("vera_lambda_d"), d_, false}};
  }

 private:
  Tensor A_, B_;
  Var d_, b_;
};

}  // namespace

Vera::Vera(Config config, uint64_t seed, Dtype dtype) : EditMethod(std::move(config), seed, dtype) {
  check_size("vera: r", config_.r);
}

void Vera::attach(const nn::SiteTable& sites) {
  int64_t inputs = 0, outputs = 0;
  for (const nn::Target& t : resolve_targets(sites, config_.target_modules, {nn::SiteKind::kLinear})) {
    inputs = std::max(inputs, t.site->shape[1]);
    outputs = std::max(outputs, t.size());
  }
  const auto key = static_cast<uint64_t>(config_.projection_prng_key);
  const auto bound = [](int64_t fan_in) { return std::sqrt(6.0 / static_cast<double>(fan_in)); };
  A_ = uniform_tensor({config_.r, inputs}, dtype_, bound(inputs), key, "vera_A");
  B_ = uniform_tensor({outputs, config_.r}, dtype_, bound(config_.r), key, "vera_B");
  place(sites, config_.target_modules, {nn::SiteKind::kLinear},
        [&](const nn::Target& t) { return std::make_shared<VeraEdit>(t, A_, B_, config_.d_initial); });
}

std::vector<std::pair<std::string, Tensor>> Vera::state() const {
  auto tensors = EditMethod::state();
  tensors.emplace_back(kKeyA, A_);
  tensors.emplace_back(kKeyB, B_);
  return tensors;
}

void Vera::load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) {
  A_.copy_from(stored_tensor(tensors, kKeyA, A_.shape()));
  B_.copy_from(stored_tensor(tensors, kKeyB, B_.shape()));
  EditMethod::load_state(tensors);
}

std::vector<MethodOptions> Vera::from_peft(const Json& config, const std::string& where) {
  refuse_set(config, {"exclude_modules", "modules_to_save", "layers_to_transform"}, where);
  if (text_in(config, "bias", where, "none") != "none") usage_error(where, ": bias is not \"none\"");
  if (!is_set(config, "target_modules")) usage_error(where, ": target_modules is missing");
  if (config.value("save_projection", Json(true)) == false)
    usage_error(where, ": save_projection is false: the random matrices are torch's draws, which only PEFT can repeat");
  return {{VeraConfig::kName, taken(config, {"r", "d_initial", "projection_prng_key", "target_modules"})}};
}

Json Vera::peft_config() const {
  Json json = peft_base(kPeftType);
  json.update({{"r", config_.r},
               {"d_initial", config_.d_initial},
               {"projection_prng_key", config_.projection_prng_key},
               {"save_projection", true},
               {"vera_dropout", 0.0},
               {"target_modules", whole_modules(edits_, VeraConfig::kName)},
               {"bias", "none"},
               {"fan_in_fan_out", false},
               {"init_weights", true},
               {"modules_to_save", nullptr}});
  return json;
}

}  // namespace molt::peft
