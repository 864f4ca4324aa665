// A golden model under fine-tuning methods, put together by hand: what the program does in its app layer.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "molt/nn/method.h"
#include "molt/optim/parameter.h"
#include "tests/cases/golden.h"

namespace molt::testing {

using MakeMethod = std::function<std::unique_ptr<nn::Method>(Dtype)>;

class TunedModel {
 public:
  /// `golden_case`: a directory of tests/golden/mamba with a checkpoint. Methods start in their first phase.
  TunedModel(const std::string& golden_case, Dtype dtype, const std::vector<MakeMethod>& methods)
      : TunedModel(golden_case, all_in(dtype), methods) {}
  TunedModel(const std::string& golden_case, const nn::Precision& precision, const std::vector<MakeMethod>& methods)
      : loaded_(models::open_model(golden_dir(golden_case) + "/checkpoint", precision)) {
    for (const MakeMethod& make : methods) {
      methods_.push_back(make(precision.activation()));
      methods_.back()->declare(model().sites(), model().parameters());
    }
    models::load_weights(loaded_);
    for (const auto& method : methods_) method->attach(model().sites());
    bind();
  }

  nn::LanguageModel& model() const { return *loaded_.model; }
  const io::Checkpoint& checkpoint() const { return *loaded_.checkpoint; }
  nn::Method& method(size_t i = 0) const { return *methods_.at(i); }
  size_t method_count() const { return methods_.size(); }
  const nn::EditSet& edits() const { return edits_; }
  std::vector<nn::Method*> methods() const {
    std::vector<nn::Method*> all;
    for (const auto& method : methods_) all.push_back(method.get());
    return all;
  }

  void begin_phase(int phase) {
    for (const auto& method : methods_) method->begin_phase(phase);
    bind();
  }
  void bind() {
    edits_.clear();
    for (const auto& method : methods_) method->bind(edits_);
  }

  /// Edits' first, then the base's.
  std::vector<nn::Trainable> trainables() const {
    std::vector<nn::Trainable> all;
    for (const auto& [site, edit] : edits_.all()) {
      for (const nn::Trainable& t : edit->trainables()) all.push_back(t);
    }
    for (const auto& method : methods_) {
      for (const nn::Trainable& t : method->base_trainables()) all.push_back(t);
    }
    return all;
  }
  Var trainable(const std::string& name) const {
    for (const nn::Trainable& t : trainables()) {
      if (t.name == name) return t.var;
    }
    ADD_FAILURE() << "nothing trains under the name " << name;
    return {};
  }
  std::vector<optim::Parameter> parameters() const {
    std::vector<optim::Parameter> all;
    for (const nn::Trainable& t : trainables())
      all.push_back({.name = t.name, .var = t.var, .lr_scale = t.lr_scale, .decay = t.decays});
    return all;
  }
  /// To be called when trainables were changed from outside.
  void after_step() const {
    for (const auto& method : methods_) method->after_step();
  }

  /// (T, V), without recording.
  Tensor logits(const GoldenStream& stream, nn::Context c = {}) const {
    const NoGrad no_grad;
    c.segments = &stream.segments;
    c.edits = &edits_;
    return model().logits(c, model().hidden(c, stream.ids), stream.rows).value();
  }
  /// Logits of the base as if no method were there.
  Tensor base_logits(const GoldenStream& stream) const {
    const NoGrad no_grad;
    const nn::Context c{.segments = &stream.segments};
    return model().logits(c, model().hidden(c, stream.ids), stream.rows).value();
  }
  nn::LossSum loss(const GoldenStream& stream, nn::Context c = {.training = true}) const {
    c.segments = &stream.segments;
    c.edits = &edits_;
    return model().loss(c, model().hidden(c, stream.ids), stream.labels);
  }

 private:
  models::LoadedModel loaded_;
  std::vector<std::unique_ptr<nn::Method>> methods_;
  nn::EditSet edits_;
};

/// A parameter's value in `dtype` (the checkpoint's, or what was trained), with every edit at its site folded in.
inline Tensor merged_weight(const TunedModel& tuned, const nn::Parameter& p, Dtype dtype) {
  const Tensor base = p.trained ? p.var.value() : tuned.checkpoint().tensor(p.path);
  const Tensor weight = base.to(dtype).reshape(p.shape);
  nn::merge_edits(tuned.edits(), tuned.model().sites(), p, weight);
  return weight;
}

}  // namespace molt::testing
