#include "molt/peft/ia3.h"

#include <algorithm>

#include "molt/base/error.h"
#include "molt/ops/scale_columns.h"

namespace molt::peft {
namespace {

Var ones(int64_t count, Dtype dtype) {
  Tensor t = Tensor::empty({count}, dtype);
  t.fill(1);
  return Var::leaf(t);
}

class OutputFactors final : public TargetEdit {
 public:
  OutputFactors(const nn::Target& target, Dtype dtype) : TargetEdit(target), l_(ones(target.size(), dtype)) {}
  Var change_output(const nn::EditContext&, const Var& y) const override {
    return ops::scale_columns(y, l_, target_.begin());
  }
  void merge(const nn::Site&, const Tensor& weight) const override {
    const std::vector<double> l = l_.value().values();
    for (size_t i = 0; i < l.size(); ++i) {
      Tensor row = weight.row_range(target_.begin() + static_cast<int64_t>(i), 1);
      row.scale(l[i]);
    }
  }
  void merge_bias(const nn::Site& site, const Tensor& bias) const override {
    merge(site, bias.reshape({bias.numel(), 1}));
  }
  Stage merge_stage() const override { return Stage::kOutput; }
  std::vector<nn::Trainable> trainables() const override { return {{name_of("ia3_l"), l_, false}}; }
  std::vector<std::pair<std::string, Tensor>> tensors() const override {
    return {{"ia3_l", l_.value().reshape({l_.value().numel(), 1})}};
  }

 private:
  Var l_;
};

class InputFactors final : public TargetEdit {
 public:
  InputFactors(const nn::Target& target, Dtype dtype) : TargetEdit(target), l_(ones(target.site->shape[1], dtype)) {
    if (target.slice)
      usage_error("feedforward_modules: ", target.label(), " is a slice; the input belongs to the whole part");
  }
  Var change_input(const nn::EditContext&, const Var& x) const override { return ops::scaled(x, l_); }
  void merge(const nn::Site&, const Tensor& weight) const override {
    const std::vector<double> l = l_.value().values();
    with_compute_type(weight.dtype(), [&](auto tag) {
      using T = decltype(tag);
      for (int64_t r = 0; r < weight.rows(); ++r) {
        T* row = weight.data<T>() + r * weight.ld();
        for (size_t c = 0; c < l.size(); ++c) row[c] = static_cast<T>(row[c] * l[c]);
      }
    });
  }
  Stage merge_stage() const override { return Stage::kInput; }
  std::vector<nn::Trainable> trainables() const override { return {{name_of("ia3_l"), l_, false}}; }
  std::vector<std::pair<std::string, Tensor>> tensors() const override {
    return {{"ia3_l", l_.value().reshape({1, l_.value().numel()})}};
  }

 private:
  Var l_;
};

}  // namespace

void Ia3::attach(const nn::SiteTable& sites) {
  std::vector<nn::Target> inputs;
  for (const std::string& name : config_.feedforward_modules) {
    for (const nn::Target& t : nn::match_target(sites, name, {nn::SiteKind::kLinear})) inputs.push_back(t);
  }
  size_t used = 0;
  place(sites, config_.target_modules, {nn::SiteKind::kLinear},
        [&](const nn::Target& t) -> std::shared_ptr<TargetEdit> {
          const bool input = std::any_of(inputs.begin(), inputs.end(),
                                         [&](const nn::Target& f) { return f.site == t.site && f.slice == t.slice; });
          if (!input) return std::make_shared<OutputFactors>(t, dtype_);
          ++used;
          return std::make_shared<InputFactors>(t, dtype_);
        });
  if (used < inputs.size()) usage_error("feedforward_modules: must be among target_modules; not all of them are");
}

std::vector<MethodOptions> Ia3::from_peft(const Json& config, const std::string& where) {
  refuse_set(config, {"exclude_modules", "modules_to_save"}, where);
  if (!is_set(config, "target_modules")) usage_error(where, ": target_modules is missing");
  return {{Ia3Config::kName, taken(config, {"target_modules", "feedforward_modules"})}};
}

Json Ia3::peft_config() const {
  Json json = peft_base(kPeftType), inputs = Json::array();
  json["target_modules"] = whole_modules(edits_, Ia3Config::kName);
  for (const auto& edit : edits_) {
    if (dynamic_cast<const InputFactors*>(edit.get())) inputs.push_back(edit->target().site->path);
  }
  json["feedforward_modules"] = inputs;
  json.update({{"fan_in_fan_out", false}, {"init_ia3_weights", true}, {"modules_to_save", nullptr}});
  return json;
}

}  // namespace molt::peft
