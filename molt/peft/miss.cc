#include "molt/peft/miss.h"

#include "molt/base/error.h"
#include "molt/ops/folded_add.h"
#include "molt/peft/foldable.h"
#include "molt/peft/sizes.h"

namespace molt::peft {
namespace {

class MissEdit final : public TargetEdit, public Foldable {
 public:
  MissEdit(const nn::Target& target, int64_t r, Dtype dtype)
      : TargetEdit(target), D_(Var::leaf(Tensor::zeros({r, target.size()}, dtype))) {
    if (r > target.site->shape[1])
      usage_error("miss: r is ", r, ", ", target.site->path, " has ", target.site->shape[1], " inputs");
  }
  Var add_to_output(const nn::EditContext&, const Var& x, const Var& y) const override {
    return ops::folded_add(y, x, D_, target_.begin());
  }
  void merge(const nn::Site&, const Tensor& weight) const override {
    const Tensor D = D_.value().to(weight.dtype());
    with_compute_type(weight.dtype(), [&](auto tag) {
      using T = decltype(tag);
      for (int64_t o = 0; o < target_.size(); ++o) {
        T* row = weight.data<T>() + (target_.begin() + o) * weight.ld();
        for (int64_t i = 0; i < weight.cols(); ++i) row[i] += D.data<T>()[i % D.rows() * D.cols() + o];
      }
    });
  }
  /// Input i goes to place i mod r of the sum: A has a one there.
  std::vector<nn::LowRankTerm> folded() const override {
    const Tensor D = D_.value();
    const int64_t I = target_.site->shape[1];
    const Tensor A = Tensor::zeros({D.rows(), I}, D.dtype()), B = Tensor::empty({D.cols(), D.rows()}, D.dtype());
    with_compute_type(D.dtype(), [&](auto tag) {
      using T = decltype(tag);
      for (int64_t i = 0; i < I; ++i) A.data<T>()[i % D.rows() * I + i] = 1;
      for (int64_t r = 0; r < D.rows(); ++r) {
        for (int64_t o = 0; o < D.cols(); ++o) B.data<T>()[o * D.rows() + r] = D.data<T>()[r * D.cols() + o];
      }
    });
    return {{Var(A), Var(B), 1, target_.begin()}};
  }
  std::vector<nn::Trainable> trainables() const override { return {{name_of("miss_block"), D_}}; }

 private:
  Var D_;
};

}  // namespace

Miss::Miss(Config config, uint64_t seed, Dtype dtype) : EditMethod(std::move(config), seed, dtype) {
  check_size("miss: r", config_.r);
}

void Miss::attach(const nn::SiteTable& sites) {
  place(sites, config_.target_modules, {nn::SiteKind::kLinear},
        [&](const nn::Target& t) { return std::make_shared<MissEdit>(t, config_.r, dtype_); });
}

std::vector<MethodOptions> Miss::from_peft(const Json& config, const std::string& where) {
  refuse_set(config, {"exclude_modules", "modules_to_save", "layers_to_transform"}, where);
  if (config.value("init_weights", Json(true)).is_string())
    usage_error(where, ": init_weights is ", config["init_weights"], ", a form this version does not have");
  if (!is_set(config, "target_modules")) usage_error(where, ": target_modules is missing");
  return {{MissConfig::kName, taken(config, {"r", "target_modules"})}};
}

Json Miss::peft_config() const {
  Json json = peft_base(kPeftType);
  json.update({{"r", config_.r},
               {"target_modules", whole_modules(edits_, MissConfig::kName)},
               {"miss_dropout", 0.0},
               {"bias", "none"},
               {"init_weights", true},
               {"modules_to_save", nullptr}});
  return json;
}

}  // namespace molt::peft
