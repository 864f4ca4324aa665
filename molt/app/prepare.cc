#include "molt/app/prepare.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "molt/app/adapter.h"
#include "molt/app/judge.h"
#include "molt/app/methods.h"
#include "molt/app/workspace.h"
#include "molt/base/error.h"
#include "molt/base/format.h"
#include "molt/base/system.h"
#include "molt/data/encoder.h"
#include "molt/device/cpu_info.h"
#include "molt/train/progress.h"

namespace molt::app {
namespace {

/// The model that a recipe makes from scratch.
models::LoadedModel scratch_model(const Recipe& recipe) {
  const ScratchConfig& s = recipe.from_scratch;
  models::LoadedModel loaded;
  loaded.family = &models::family_named(s.family);
  nn::LanguageModelPlan plan;
  plan.family = s.family;
  plan.d_model = s.d_model;
  const text::Tokenizer tokenizer = text::Tokenizer::load(recipe.tokenizer);
  plan.vocabulary = (tokenizer.vocab_size() + 7) / 8 * 8;
  nn::MambaConfig mixer;
  mixer.d_model = s.d_model;
  mixer.d_inner = s.expand * s.d_model;
  mixer.d_state = s.d_state;
  mixer.d_conv = s.d_conv;
  mixer.dt_rank = (s.d_model + 15) / 16;
  plan.layers.assign(static_cast<size_t>(s.layers), {mixer});
  loaded.config = loaded.family->config(plan);
  loaded.model = std::make_unique<nn::LanguageModel>(plan, recipe.precision());
  return loaded;
}

/// `meanwhile`: what may be done while text is tokenised; may be empty.
data::Data load_data(const Recipe& recipe, const data::Encoder& encoder, const PrepareOptions& options,
                     const std::function<void()>& meanwhile) {
  train::Progress progress(
      {.sink = options.sink ? options.sink : [](std::string_view) {}, .tty = options.tty, .width = options.width});
  bool tokenising = false;
  data::LoadOptions load_options;
  load_options.threads = compute_threads();
  load_options.meanwhile = meanwhile;
  load_options.progress = [&](const data::TokenProgress& at) {
    const int64_t mebibyte = 1 << 20, total = (at.bytes_total + mebibyte - 1) / mebibyte;
    if (!std::exchange(tokenising, true)) progress.begin("tokenise (MiB)", total);
    progress.update({.step = at.bytes_done == at.bytes_total ? total : at.bytes_done / mebibyte});
  };
  data::Data data = data::load_data(recipe.data, encoder, load_options);
  if (tokenising) progress.finish();
  return data;
}

/// Reads the weights of the base, or draws those of a model from scratch.
void fill_weights(const Recipe& recipe, models::LoadedModel& base) {
  if (recipe.scratch_given) {
    // Drawing trillions of numbers would take hours before memory is full.
    const int64_t bytes = base.model->parameter_count() * static_cast<int64_t>(sizeof(float));
    const int64_t there = memory_limit().bytes;
    if (there > 0 && bytes > there)
      usage_error("from_scratch: a model of ", format_count(base.model->parameter_count()), " parameters takes ",
                  format_bytes(bytes), ", more than this machine has; make it smaller");
    models::initialise_weights(base, static_cast<uint64_t>(recipe.seed));
  } else {
    models::load_weights(base);
  }
}

}  // namespace

PreparedRun prepare_run(const Recipe& recipe, const PrepareOptions& options) {
  if (recipe.methods.empty()) usage_error("method: is missing; name one, such as {lora: {r: 8}}, sdt or full");
  use_threads(recipe.threads);
  if (!recipe.data.train.empty()) check_judge(recipe);
  models::LoadedModel base = recipe.scratch_given ? scratch_model(recipe)
                             : options.outline    ? models::open_outline(recipe.model, recipe.precision())
                                                  : models::open_model(recipe.model, recipe.precision());
  nn::LanguageModel& model = *base.model;
  check_earlier_adapters(recipe.methods, base);
  auto methods = make_methods(recipe.methods, static_cast<uint64_t>(recipe.seed), model.precision().activation());
  for (const auto& method : methods) method->declare(model.sites(), model.parameters());
  text::Tokenizer tokenizer = open_tokenizer(recipe.tokenizer, recipe.model, model.plan().vocabulary);
  data::Encoder encoder = data::load_encoder(recipe.tokenizer.empty() ? recipe.model : recipe.tokenizer);
  bool attached = false;
  std::function<void()> meanwhile;
  if (options.attach && recipe.most_memory() == 0)
    meanwhile = [&] { attach_to_weights(recipe, base, methods), attached = true; };
  data::Data data = load_data(recipe, encoder, options, meanwhile);
  if (!data.train) usage_error("data.train: is missing");
  check_judge(recipe, data, encoder);
  auto stream = std::make_unique<data::BatchStream>(
      data.train, data::BatchOptions{.batch_size = recipe.training.batch_size,
                                     .tokens_per_batch = recipe.training.tokens_per_batch,
                                     .seed = static_cast<uint64_t>(recipe.seed)});
  return {
      std::move(base), std::move(methods), std::move(tokenizer), std::move(encoder), std::move(data), std::move(stream),
      attached};
}

void attach_to_weights(const Recipe& recipe, models::LoadedModel& base,
                       const std::vector<std::unique_ptr<nn::Method>>& methods) {
  fill_weights(recipe, base);
  attach_methods(methods, *base.model);
  check_product(recipe, methods, *base.model);
}

void attach_methods(const std::vector<std::unique_ptr<nn::Method>>& methods, const nn::LanguageModel& model) {
  int with_phases = 0;
  int64_t trainable = 0;
  for (const auto& method : methods) {
    method->attach(model.sites());
    method->require_effect();
    with_phases += method->phases().size() > 1;
    trainable += method->trainable_count();
  }
  if (with_phases > 1) usage_error("method: two methods with phases of their own cannot be combined");
  if (trainable == 0) usage_error("method: nothing trains");
}

std::vector<nn::Method*> method_list(const std::vector<std::unique_ptr<nn::Method>>& methods) {
  std::vector<nn::Method*> list;
  for (const auto& method : methods) list.push_back(method.get());
  return list;
}

bool trains_whole_model(const std::vector<std::unique_ptr<nn::Method>>& methods, const nn::LanguageModel& model) {
  return methods.size() == 1 && methods[0]->name() == "full" &&
         methods[0]->trainable_count() == model.parameter_count();
}

void check_product(const Recipe& recipe, const std::vector<std::unique_ptr<nn::Method>>& methods,
                   const nn::LanguageModel& model) {
  if (recipe.scratch_given && !trains_whole_model(methods, model))
    usage_error(
        "method: a model made from_scratch is kept nowhere else, so all of it must train: expected full; for an "
        "adapter on such a model train it so first, and name its directory as model");
}

}  // namespace molt::app
