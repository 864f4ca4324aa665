#include "molt/peft/vectors.h"

#include "molt/base/error.h"
#include "molt/nn/parameter.h"

namespace molt::peft {
namespace {

/// A trainable that starts as a copy of a parameter; zeros where that is absent or not loaded.
Var copy_of(const nn::Parameter* p, const Shape& shape, Dtype dtype) {
  Tensor value = Tensor::zeros(shape, dtype);
  if (p && p->var.defined()) value.copy_from(p->var.value());
  return Var::leaf(value);
}

class OwnBias final : public TargetEdit {
 public:
  OwnBias(const nn::Target& target, Dtype dtype)
      : TargetEdit(target), bias_(copy_of(target.site->bias, {target.site->shape[0]}, dtype)) {
    if (target.slice) usage_error("target_modules: ", target.label(), " is a slice; bitfit trains the bias of a part");
  }
  Var change_bias(const nn::EditContext&, const Var&) const override { return bias_; }
  void merge(const nn::Site& site, const Tensor&) const override {
    if (!site.bias) usage_error(site.path, ": has no bias in this model that bitfit's could be merged into");
  }
  void merge_bias(const nn::Site&, const Tensor& bias) const override {
    Tensor to = bias;
    to.copy_from(bias_.value());
  }
  std::vector<nn::Trainable> trainables() const override { return {{name_of("bias"), bias_, false}}; }

 private:
  Var bias_;
};

class OwnNorm final : public TargetEdit {
 public:
  OwnNorm(const nn::Target& target, Dtype dtype)
      : TargetEdit(target), weight_(copy_of(target.site->parameter, target.site->shape, dtype)) {
    if (target.site->shape.size() != 1)
      usage_error("target_modules: ", target.site->path, " is ", shape_str(target.site->shape), ", no norm's weight");
  }
  std::string module() const override { return target_.site->path.substr(0, target_.site->path.rfind('.')); }
  std::vector<std::pair<std::string, Tensor>> tensors() const override {
    return {{"ln_tuning_layers.weight", weight_.value()}};
  }
  Var change_param(const nn::EditContext&, const Var&) const override { return weight_; }
  void merge(const nn::Site&, const Tensor& weight) const override {
    Tensor to = weight;
    to.copy_from(weight_.value());
  }
  std::vector<nn::Trainable> trainables() const override { return {{name_of("ln_tuning"), weight_, false}}; }

 private:
  Var weight_;
};

}  // namespace

void BitFit::attach(const nn::SiteTable& sites) {
  place(sites, config_.target_modules, {nn::SiteKind::kLinear, nn::SiteKind::kConv},
        [&](const nn::Target& t) { return std::make_shared<OwnBias>(t, dtype_); });
}

void LnTuning::attach(const nn::SiteTable& sites) {
  place(sites, config_.target_modules, {nn::SiteKind::kParam},
        [&](const nn::Target& t) { return std::make_shared<OwnNorm>(t, dtype_); });
}

std::vector<MethodOptions> LnTuning::from_peft(const Json& config, const std::string& where) {
  refuse_set(config, {"exclude_modules", "modules_to_save"}, where);
  Json options = taken(config, {"target_modules"});
  if (!options.contains("target_modules")) usage_error(where, ": target_modules is missing");
  Json& targets = options["target_modules"];
  if (targets.is_string()) targets = Json::array({str("(", targets.get<std::string>(), ")\\.weight")});
  if (!targets.is_array()) usage_error(where, ": target_modules: expected text or a list, found ", targets.type_name());
  for (Json& name : targets) {
    if (!name.is_string()) usage_error(where, ": target_modules: expected text, found ", name.dump().substr(0, 60));
    const std::string text = name.get<std::string>();
    if (text.size() < 7 || text.substr(text.size() - 7) != ".weight") name = text + ".weight";
  }
  return {{LnTuningConfig::kName, options}};
}

Json LnTuning::peft_config() const {
  Json json = peft_base(kPeftType), modules = Json::array();
  for (const auto& edit : edits_) modules.push_back(edit->module());
  json["target_modules"] = modules;
  json["modules_to_save"] = nullptr;
  return json;
}

}  // namespace molt::peft
