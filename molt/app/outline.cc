#include "molt/app/outline.h"

#include "molt/app/adapter.h"
#include "molt/app/methods.h"
#include "molt/app/prepare.h"
#include "molt/base/error.h"
#include "molt/train/trainer.h"

namespace molt::app {
namespace {

std::vector<std::unique_ptr<nn::Method>> declared_methods(const Recipe& recipe, nn::LanguageModel& model) {
  auto methods = make_methods(recipe.methods, static_cast<uint64_t>(recipe.seed), model.precision().activation());
  for (const auto& method : methods) method->declare(model.sites(), model.parameters());
  return methods;
}

/// A model of the same plan, whose small parameters have values: methods may look at them (SDT ranks A_log).
models::LoadedModel outline_of(const Recipe& recipe, const models::LoadedModel& base,
                               std::vector<std::unique_ptr<nn::Method>>& methods) {
  models::LoadedModel loaded;
  loaded.family = base.family;
  loaded.checkpoint = base.checkpoint;
  loaded.model = std::make_unique<nn::LanguageModel>(base.model->plan(), base.model->precision());
  methods = declared_methods(recipe, *loaded.model);
  for (nn::Parameter& p : loaded.model->parameters()) {
    if (!p.product && !p.lookup)
      p.set(loaded.family->initial(p, loaded.model->plan(), static_cast<uint64_t>(recipe.seed)),
            loaded.model->precision(), true);
  }
  return loaded;
}

}  // namespace

Outline::Outline(const Recipe& recipe, const models::LoadedModel& base) {
  loaded = outline_of(recipe, base, methods);
  try {
    attach_methods(methods, *loaded.model);
  } catch (const InternalError&) {
    // One that reads matrices when it is attached gets some.
    for (nn::Parameter& p : loaded.model->parameters()) {
      if (!p.product && !p.lookup) continue;
      Tensor any = Tensor::empty(p.shape, loaded.model->precision().lookup());
      any.fill(0.01);
      p.set(any, loaded.model->precision(), true);
    }
    methods = declared_methods(recipe, *loaded.model);
    attach_methods(methods, *loaded.model);
  }
}

void Outline::begin(size_t phase) {
  edits.clear();
  for (const auto& method : methods) {
    method->begin_phase(static_cast<int>(phase));
    method->bind(edits);
  }
}

int64_t Outline::base_trainable() const {
  int64_t count = 0;
  for (const nn::Parameter& p : loaded.model->parameters()) count += p.trained ? shape_numel(p.shape) : 0;
  return count;
}

int64_t Outline::trainable() const {
  int64_t count = base_trainable();
  for (const auto& [site, edit] : edits.all()) {
    for (const nn::Trainable& t : edit->trainables()) count += shape_numel(t.var.node()->shape);
  }
  return count;
}

void check_methods(const Recipe& recipe, const std::string& name) {
  if (recipe.scratch_given) return;  // full alone trains such a model
  use_threads(recipe.threads);
  try {
    const models::LoadedModel base = models::open_outline(recipe.model, recipe.precision());
    check_earlier_adapters(recipe.methods, base);
    std::vector<std::unique_ptr<nn::Method>> methods;
    const models::LoadedModel loaded = outline_of(recipe, base, methods);
    attach_methods(methods, *loaded.model);
    train::check_trainables(method_list(methods), recipe.training);
  } catch (const InternalError&) {
    // It found its sites, and reads matrices there.
  } catch (const UsageError& e) {
    usage_error(name, ": ", e.what());
  }
}

}  // namespace molt::app
