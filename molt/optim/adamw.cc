#include "molt/optim/adamw.h"

#include <cmath>
#include <map>
#include <set>

#include "molt/base/error.h"
#include "molt/device/cpu/parallel.h"

namespace molt::optim {
namespace {

constexpr int64_t kChunk = 1 << 14;  // elements updated by one thread at a time

/// The constants of one parameter's step.
struct Rates {
  double keep, grad_scale, beta1, beta2, step_size, v_scale, eps;
};

/// A run of numbers that lie side by side in the value, the gradient and the moments.
struct Run {
  const Rates* rates;
  Dtype dtype;
  void* value;
  const void* grad;
  void* m;
  void* v;
  int64_t count;
};

template <class T>
void update(const Run& run) {
  const Rates& r = *run.rates;
  const T keep = static_cast<T>(r.keep), grad_scale = static_cast<T>(r.grad_scale), eps = static_cast<T>(r.eps);
  const T mix1 = static_cast<T>(1 - r.beta1), beta2 = static_cast<T>(r.beta2), mix2 = static_cast<T>(1 - r.beta2);
  const T step_size = static_cast<T>(r.step_size), v_scale = static_cast<T>(r.v_scale);
  T* __restrict p = static_cast<T*>(run.value);
  T* __restrict m = static_cast<T*>(run.m);
  T* __restrict v = static_cast<T*>(run.v);
  const T* __restrict grad = static_cast<const T*>(run.grad);
  for (int64_t i = 0; i < run.count; ++i) {
    const T g = grad[i] * grad_scale;
    const T mean = m[i] + mix1 * (g - m[i]), square = beta2 * v[i] + mix2 * (g * g);
    m[i] = mean;
    v[i] = square;
    p[i] = p[i] * keep - step_size * (mean / (std::sqrt(square) / v_scale + eps));
  }
}

/// Cuts `count` numbers into runs; offsets are in elements.
void add_runs(std::vector<Run>& runs, Run all, int64_t value_at, int64_t grad_at, int64_t count) {
  const auto size = static_cast<int64_t>(dtype_size(all.dtype));
  for (int64_t begin = 0; begin < count; begin += kChunk) {
    Run run = all;
    run.value = static_cast<char*>(all.value) + (value_at + begin) * size;
    run.grad = static_cast<const char*>(all.grad) + (grad_at + begin) * size;
    run.m = static_cast<char*>(all.m) + (grad_at + begin) * size;
    run.v = static_cast<char*>(all.v) + (grad_at + begin) * size;
    run.count = std::min(kChunk, count - begin);
    runs.push_back(run);
  }
}

}  // namespace

AdamW::AdamW(std::vector<Parameter> parameters, AdamWConfig config)
    : parameters_(std::move(parameters)), config_(config) {
  const auto share = [](const char* name, double value) {
    if (!(value >= 0 && value < 1)) usage_error(name, ": expected a number in [0, 1), got ", value);
  };
  share("adam_beta1", config_.beta1);
  share("adam_beta2", config_.beta2);
  if (!(config_.eps >= 0)) usage_error("adam_epsilon: expected 0 or more, got ", config_.eps);
  if (!(config_.weight_decay >= 0)) usage_error("weight_decay: expected 0 or more, got ", config_.weight_decay);
  std::set<std::string> names;
  std::set<const GradNode*> nodes;
  for (const Parameter& p : parameters_) {
    const Tensor& value = p.var.value();
    MOLT_CHECK(p.var.needs_grad() && !p.var.node()->producer && !p.var.node()->parent, "adamw: ", p.name,
               " is not a leaf");
    MOLT_CHECK((value.dtype() == Dtype::kF32 || value.dtype() == Dtype::kF64) && value.contiguous(), "adamw: ", p.name,
               " must be dense and f32 or f64, is ", dtype_name(value.dtype()));
    MOLT_CHECK(names.insert(p.name).second, "adamw: two parameters are named ", p.name);
    MOLT_CHECK(nodes.insert(p.var.node().get()).second, "adamw: ", p.name, " is given twice");
    if (!(p.weight_decay.value_or(0) >= 0))
      usage_error("weight_decay: expected 0 or more, got ", *p.weight_decay, " for ", p.name);
    const Shape& shape = p.var.node()->shape;
    moments_.push_back({Tensor::zeros(shape, value.dtype(), value.device()),
                        Tensor::zeros(shape, value.dtype(), value.device()), Tensor::zeros({1}, Dtype::kI64)});
  }
}

void AdamW::step(double lr, double grad_scale) {
  std::vector<Rates> rates(parameters_.size());
  std::vector<Tensor> grads(parameters_.size());
  std::vector<Run> runs;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& p = parameters_[i];
    grads[i] = p.var.grad();
    if (!grads[i].defined()) continue;
    if (!grads[i].contiguous()) grads[i] = grads[i].clone();
    const auto t = static_cast<double>(++*moments_[i].step.data<int64_t>());
    const double eta = lr * p.lr_scale;
    rates[i] = {.keep = p.decay ? 1 - eta * p.weight_decay.value_or(config_.weight_decay) : 1,
                .grad_scale = grad_scale,
                .beta1 = config_.beta1,
                .beta2 = config_.beta2,
                .step_size = eta / (1 - std::pow(config_.beta1, t)),
                .v_scale = std::sqrt(1 - std::pow(config_.beta2, t)),
                .eps = config_.eps};
    const Tensor& value = p.var.value();
    const Run all = {&rates[i], value.dtype(), value.raw(), grads[i].raw(), moments_[i].m.raw(), moments_[i].v.raw(),
                     0};
    if (const IndexSetPtr& rows = p.var.node()->rows) {
      const int64_t n = value.numel() / std::max<int64_t>(value.dim(0), 1);
      for (size_t r = 0; r < rows->size(); ++r) add_runs(runs, all, (*rows)[r] * n, static_cast<int64_t>(r) * n, n);
    } else {
      add_runs(runs, all, 0, 0, value.numel());
    }
  }
  parallel_for(static_cast<int64_t>(runs.size()), 1, [&](int64_t i) {
    const Run& run = runs[static_cast<size_t>(i)];
    run.dtype == Dtype::kF64 ? update<double>(run) : update<float>(run);
  });
  clear_grads();
}

void AdamW::clear_grads() {
  for (const Parameter& p : parameters_) p.var.clear_grad();
}

int64_t AdamW::trainable_count() const {
  int64_t count = 0;
  for (const Moments& moments : moments_) count += moments.m.numel();
  return count;
}

NamedTensors AdamW::state() const {
  NamedTensors tensors;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    tensors.emplace_back(parameters_[i].name + ".exp_avg", moments_[i].m);
    tensors.emplace_back(parameters_[i].name + ".exp_avg_sq", moments_[i].v);
    tensors.emplace_back(parameters_[i].name + ".step", moments_[i].step);
  }
  return tensors;
}

void AdamW::load_state(const NamedTensors& tensors) {
  std::map<std::string, Tensor> given(tensors.begin(), tensors.end());
  // Everything is checked before anything changes.
  for (const auto& [name, mine] : state()) {
    const auto found = given.find(name);
    if (found == given.end()) usage_error("optimizer state: ", name, " is missing; was it saved by another recipe?");
    const Tensor& tensor = found->second;
    if (tensor.shape() != mine.shape() || tensor.dtype() != mine.dtype())
      usage_error("optimizer state: ", name, " must be ", shape_str(mine.shape()), " ", dtype_name(mine.dtype()),
                  ", is ", shape_str(tensor.shape()), " ", dtype_name(tensor.dtype()));
  }
  if (given.size() != 3 * parameters_.size() || tensors.size() != given.size()) {
    for (const auto& [name, mine] : state()) given.erase(name);
    usage_error("optimizer state: ", given.empty() ? "a tensor comes twice" : given.begin()->first + " is not expected",
                "; was it saved by another recipe?");
  }
  for (auto [name, mine] : state()) mine.copy_from(given.at(name));
}

}  // namespace molt::optim
