#include "molt/app/probe.h"

#include <algorithm>
#include <chrono>
#include <set>

#include "molt/app/methods.h"
#include "molt/autograd/tape.h"
#include "molt/base/error.h"
#include "molt/nn/remembered.h"
#include "molt/optim/clip.h"

namespace molt::app {
namespace {

using Clock = std::chrono::steady_clock;

/// Makes the first layer's input want a gradient, as that of every layer above the lowest that trains does.
class Leaf final : public nn::Edit {
 public:
  Var change_output(const nn::EditContext&, const Var& y) const override {
    return y.needs_grad() ? y : Var::leaf(y.value());
  }
  std::vector<nn::Trainable> trainables() const override { return {}; }
};

/// A parameter's path without the number of its layer.
std::string in_any_layer(const nn::Parameter& p) {
  if (p.layer < 0) return p.path;
  const std::string number = str(".", p.layer, ".");
  const size_t at = p.path.find(number);
  return at == std::string::npos ? p.path : p.path.substr(0, at) + ".*." + p.path.substr(at + number.size());
}

/// Layers whose packed weights do not fit into a core's own caches, but three at least.
int layers_that_tell(const nn::LanguageModel& model) {
  constexpr int64_t kCaches = int64_t{48} << 20;
  int64_t bytes = 0;
  for (const nn::Parameter& p : model.parameters()) {
    if (p.layer == 0) bytes += 2 * shape_numel(p.shape) * static_cast<int64_t>(dtype_size(model.precision().compute));
  }
  const int64_t wanted = std::max<int64_t>(3, (kCaches + bytes - 1) / std::max<int64_t>(1, bytes));
  return static_cast<int>(std::min<int64_t>(wanted, static_cast<int64_t>(model.plan().layers.size())));
}

}  // namespace

Probe::Probe(const models::LoadedModel& like, const std::vector<MethodEntry>& methods, const Options& options)
    : options_(options) {
  if (options_.layers == 0) options_.layers = layers_that_tell(*like.model);
  nn::LanguageModelPlan plan = like.model->plan();
  plan.layers.assign(static_cast<size_t>(options_.layers), plan.layers.at(0));
  loaded_.family = like.family;
  loaded_.model = std::make_unique<nn::LanguageModel>(plan, like.model->precision());
  for (const MethodEntry& entry : methods) {
    auto method = make_method(entry, options.seed, loaded_.model->precision().activation());
    try {
      method->declare(loaded_.model->sites(), loaded_.model->parameters());
    } catch (const UsageError&) {
      continue;
    }
    methods_.push_back(std::move(method));
  }
  fill();
  attach();
  bind();
}

/// The family's initial values for what decides how fast numbers are to compute with, such as A_log; for large
/// matrices, where drawing them would take longer than the measurement, any small numbers.
void Probe::fill() {
  constexpr int64_t kLarge = int64_t{1} << 16;
  for (nn::Parameter& p : loaded_.model->parameters()) {
    Tensor values;
    if (shape_numel(p.shape) <= kLarge) {
      values = loaded_.family->initial(p, loaded_.model->plan(), options_.seed);
    } else {
      values = Tensor::empty(p.shape, Dtype::kF32);
      float* out = values.data<float>();
      for (int64_t i = 0; i < values.numel(); ++i)
        out[i] = 0.02f * static_cast<float>((static_cast<uint64_t>(i) * 2654435761u >> 8 & 255)) / 128 - 0.02f;
    }
    p.set(values, loaded_.model->precision(), true);
  }
}

void Probe::attach() {
  std::vector<std::unique_ptr<nn::Method>> found;
  for (auto& method : methods_) {
    try {
      method->attach(loaded_.model->sites());
    } catch (const UsageError&) {
      continue;
    }
    for (size_t phase = 0; phase <= options_.phase; ++phase) method->begin_phase(static_cast<int>(phase));
    method->bind(edits_);
    found.push_back(std::move(method));
  }
  methods_ = std::move(found);
  for (const nn::Site& site : loaded_.model->sites().all()) {
    if (site.kind == nn::SiteKind::kEmbedding) edits_.add(site, std::make_shared<Leaf>());
  }
}

void Probe::bind() {
  std::vector<optim::Parameter> parameters;
  std::set<std::string> names;
  auto add = [&](const nn::Trainable& t) {
    if (names.insert(t.name).second)
      parameters.push_back({.name = t.name, .var = t.var, .lr_scale = t.lr_scale, .decay = t.decays});
  };
  for (const auto& [site, edit] : edits_.all()) {
    for (const nn::Trainable& t : edit->trainables()) add(t);
  }
  for (const auto& method : methods_) {
    for (const nn::Trainable& t : method->base_trainables()) add(t);
  }
  if (!parameters.empty()) optimizer_ = std::make_unique<optim::AdamW>(std::move(parameters), optim::AdamWConfig());
}

int64_t Probe::weight_bytes(const nn::Parameter& p) const {
  const std::string path = in_any_layer(p);
  for (const nn::Parameter& mine : loaded_.model->parameters()) {
    if (in_any_layer(mine) != path) continue;
    const Tensor& value = mine.var.value();
    const int64_t table =
        value.defined() && !mine.trained ? value.numel() * static_cast<int64_t>(dtype_size(value.dtype())) : 0;
    return table + (mine.packed ? static_cast<int64_t>(mine.packed->bytes()) : 0);
  }
  MOLT_CHECK(false, "probe: no parameter like ", p.path);
}

StepLaps Probe::step(const data::Batch& batch, bool recompute) {
  StepLaps laps;
  auto start = Clock::now();
  auto lap = [&](double& slot) {
    slot = std::chrono::duration<double>(Clock::now() - start).count();
    start = Clock::now();
  };
  const nn::Context c{
      .segments = &batch.segments, .edits = &edits_, .training = true, .seed = options_.seed, .recompute = recompute};
  Var h = model().hidden(c, batch.ids);
  lap(laps.forward);
  laps.live_after_forward = static_cast<int64_t>(memory_use().live);
  const nn::LossSum loss = model().loss(c, h, batch.labels);
  h = Var();
  lap(laps.head);
  if (loss.count > 0 && loss.sum.needs_grad()) backward(loss.sum);
  lap(laps.backward);
  if (optimizer_) {
    optim::grad_norm(optimizer_->parameters());
    optimizer_->step(0);
    for (const auto& method : methods_) method->after_step();
  }
  lap(laps.update);
  return laps;
}

StepLaps Probe::again(const data::Batch& batch) const {
  StepLaps laps;
  nn::Remembered products;
  nn::Context c{.segments = &batch.segments, .edits = &edits_, .training = true, .seed = options_.seed};
  {
    const NoGrad no_grad;
    c.keeps = &products;
    model().hidden(c, batch.ids);
  }
  laps.products = products.bytes();
  c.keeps = nullptr, c.known = &products;
  const auto start = Clock::now();
  model().hidden(c, batch.ids);
  laps.forward = std::chrono::duration<double>(Clock::now() - start).count();
  return laps;
}

StepLaps Probe::plain(const data::Batch& batch) const {
  StepLaps laps;
  const NoGrad no_grad;
  const nn::Context c{.segments = &batch.segments};
  auto start = Clock::now();
  const Var h = model().hidden(c, batch.ids);
  laps.forward = std::chrono::duration<double>(Clock::now() - start).count();
  start = Clock::now();
  model().loss(c, h, batch.labels);
  laps.head = std::chrono::duration<double>(Clock::now() - start).count();
  return laps;
}

}  // namespace molt::app
