#include "molt/peft/adalora.h"

#include <algorithm>
#include <cmath>

#include "molt/base/error.h"
#include "molt/io/adapter.h"
#include "molt/ops/products.h"
#include "molt/ops/vector_low_rank.h"
#include "molt/peft/foldable.h"
#include "molt/peft/kaiming.h"
#include "molt/peft/sizes.h"

namespace molt::peft {

class TripletEdit final : public TargetEdit, public Foldable {
 public:
  TripletEdit(const nn::Target& target, int64_t r, double scale, uint64_t seed, Dtype dtype)
      : TargetEdit(target), scale_(scale) {
    A = Var::leaf(normal_tensor({r, target.site->shape[1]}, dtype, 0.02, seed, name_of("lora_A")));
    B = Var::leaf(normal_tensor({target.size(), r}, dtype, 0.02, seed, name_of("lora_B")));
    E = Var::leaf(Tensor::zeros({r, 1}, dtype));
    kept = Tensor::zeros({r}, Dtype::kI64);
    for (int64_t i = 0; i < r; ++i) kept.data<int64_t>()[i] = 1;
    for (const Var* v : vars()) {
      importance.push_back(Tensor::zeros(v->value().shape(), Dtype::kF64));
      uncertainty.push_back(Tensor::zeros(v->value().shape(), Dtype::kF64));
    }
  }
  Var add_to_output(const nn::EditContext&, const Var& x, const Var& y) const override {
    return ops::vector_low_rank(y, x, A, E, B, {}, scale_, target_.begin());
  }
  /// The directions that are on.
  std::vector<nn::LowRankTerm> folded() const override {
    const std::vector<double> e = E.value().values();
    const auto on = static_cast<int64_t>(e.size()) - std::count(e.begin(), e.end(), 0.0);
    if (on == 0) return {};
    const Tensor a = A.value().like({on, A.value().cols()}), b = B.value().like({B.value().rows(), on});
    int64_t at = 0;
    for (size_t r = 0; r < e.size(); ++r) {
      if (e[r] == 0) continue;
      const auto from = static_cast<int64_t>(r);
      a.row_range(at, 1).copy_from(A.value().row_range(from, 1));
      a.row_range(at, 1).scale(e[r]);
      b.col_range(at++, 1).copy_from(B.value().col_range(from, 1));
    }
    return {{Var(a), Var(b), scale_, target_.begin()}};
  }
  void merge(const nn::Site&, const Tensor& weight) const override { merge_terms(folded(), weight); }
  std::vector<nn::Trainable> trainables() const override {
    return {{name_of("adalora_A"), A}, {name_of("adalora_B"), B}, {name_of("adalora_E"), E}};
  }
  std::vector<std::pair<std::string, Tensor>> tensors() const override {
    return {{"lora_A", A.value()}, {"lora_B", B.value()}, {"lora_E", E.value()}};
  }
  std::vector<const Var*> vars() const { return {&A, &B, &E}; }

  /// Adds the penalty's gradient to A's and B's: of weight · ‖P Pᵀ − I‖.
  void add_penalty(double weight) const {
    for (const bool rows : {true, false}) {
      const Var& v = rows ? A : B;
      const Tensor p = v.value().to(Dtype::kF64);
      const int64_t r = rows ? p.rows() : p.cols();
      const Tensor m = Tensor::zeros({r, r}, Dtype::kF64);
      for (int64_t i = 0; i < r; ++i) m.data<double>()[i * r + i] = -1;
      ops::multiply(!rows, rows, 1, p, p, {m, true});
      double norm = 0;
      for (const double x : m.values()) norm += x * x;
      if (norm == 0) continue;
      const Tensor grad = Tensor::empty(p.shape(), Dtype::kF64);
      const double f = 2 * weight / std::sqrt(norm);
      rows ? ops::multiply(false, false, f, m, p, {grad, false}) : ops::multiply(false, false, f, p, m, {grad, false});
      Tensor own = grad.to(v.value().dtype());
      if (v.grad().defined()) own.add(v.grad());
      v.set_grad(own);
    }
  }

  /// |p · ∂p| of the step just made, smoothed.
  void rate(double beta1, double beta2) {
    const auto all = vars();
    for (size_t k = 0; k < all.size(); ++k) {
      if (!grads[k].defined()) continue;
      const std::vector<double> p = all[k]->value().values(), g = grads[k].values();
      double *mean = importance[k].data<double>(), *spread = uncertainty[k].data<double>();
      for (size_t i = 0; i < p.size(); ++i) {
        const double now = std::abs(p[i] * g[i]);
        mean[i] = beta1 * mean[i] + (1 - beta1) * now;
        spread[i] = beta2 * spread[i] + (1 - beta2) * std::abs(now - mean[i]);
      }
    }
  }

  /// The importance of each direction.
  std::vector<double> scores() const {
    const int64_t r = E.value().numel();
    std::vector<double> out(static_cast<size_t>(r), 0);
    const auto all = vars();
    for (size_t k = 0; k < all.size(); ++k) {
      const std::vector<double> a = importance[k].values(), b = uncertainty[k].values();
      const bool columns = k == 1;  // of B
      const double mean = static_cast<double>(r) / static_cast<double>(a.size());
      for (size_t i = 0; i < a.size(); ++i) {
        const size_t direction = columns ? i % static_cast<size_t>(r) : i / (a.size() / static_cast<size_t>(r));
        out[direction] += a[i] * b[i] * mean;
      }
    }
    return out;
  }

  /// Directions that are off stay off, whatever the optimizer did to them.
  void mask() {
    with_compute_type(E.value().dtype(), [&](auto tag) {
      using T = decltype(tag);
      for (int64_t i = 0; i < kept.numel(); ++i) {
        if (!kept.data<int64_t>()[i]) E.value().data<T>()[i] = 0;
      }
    });
  }

  void reset() override {
    std::fill_n(kept.data<int64_t>(), kept.numel(), int64_t{1});
    for (const auto* smoothed : {&importance, &uncertainty})
      for (const Tensor& t : *smoothed) std::fill_n(t.data<double>(), t.numel(), 0.0);
    grads.clear();
  }

  Var A, B, E;
  Tensor kept;                                  ///< (R) i64
  std::vector<Tensor> importance, uncertainty;  ///< of A, B, E; f64
  std::vector<Tensor> grads;                    ///< of the step that is being made

 private:
  double scale_;
};

AdaLora::AdaLora(Config config, uint64_t seed, Dtype dtype) : EditMethod(std::move(config), seed, dtype) {
  const auto& c = config_;
  if (c.init_r < 1 || c.target_r < 1 || c.target_r > c.init_r)
    usage_error("adalora: expected 1 ≤ target_r ≤ init_r, found ", c.target_r, " and ", c.init_r);
  check_size("adalora: init_r", c.init_r);
  if (c.tinit < 0 || c.tfinal < 0 || c.deltaT < 1)
    usage_error("adalora: tinit and tfinal must not be negative and deltaT at least 1, they are ", c.tinit, ", ",
                c.tfinal, ", ", c.deltaT);
  if (!(c.beta1 > 0 && c.beta1 < 1 && c.beta2 > 0 && c.beta2 < 1))
    usage_error("adalora: beta1 and beta2 must lie in (0, 1), they are ", c.beta1, ", ", c.beta2);
  if (!(c.orth_reg_weight >= 0)) usage_error("adalora: orth_reg_weight must not be negative, is ", c.orth_reg_weight);
}

void AdaLora::attach(const nn::SiteTable& sites) {
  const double alpha = config_.lora_alpha > 0 ? config_.lora_alpha : static_cast<double>(config_.init_r);
  const double scale = alpha / (static_cast<double>(config_.init_r) + 1e-5);
  place(sites, config_.target_modules, {nn::SiteKind::kLinear}, [&](const nn::Target& t) {
    triplets_.push_back(std::make_shared<TripletEdit>(t, config_.init_r, scale, seed_, dtype_));
    return triplets_.back();
  });
}

void AdaLora::check_steps(int64_t steps) const {
  if (config_.tinit >= steps - config_.tfinal)
    usage_error("adalora: tinit ", config_.tinit, " and tfinal ", config_.tfinal, " leave nothing of ", steps,
                " steps to choose ranks in");
}

void AdaLora::before_step(const nn::StepInfo& info) {
  info_ = info;
  stepping_ = true;
  const double weight = config_.orth_reg_weight / (2 * static_cast<double>(triplets_.size())) / info.grad_scale;
  for (const auto& t : triplets_) {
    if (weight > 0) t->add_penalty(weight);
    t->grads.clear();
    for (const Var* v : t->vars()) {
      t->grads.push_back(v->grad().defined() ? v->grad().clone() : Tensor());
      if (t->grads.back().defined()) t->grads.back().scale(info.grad_scale);
    }
  }
}

void AdaLora::after_step() {
  if (!stepping_) return;
  stepping_ = false;
  if (!info_.last_phase) {  // the budget is for the training that counts
    for (const auto& t : triplets_) t->grads.clear();
    return;
  }
  const int64_t last = info_.steps - config_.tfinal, step = info_.step;
  if (step < last) {
    for (const auto& t : triplets_) t->rate(config_.beta1, config_.beta2);
  }
  const int64_t all = config_.init_r * static_cast<int64_t>(triplets_.size()),
                wanted = config_.target_r * static_cast<int64_t>(triplets_.size());
  if (step > last) {
    for (const auto& t : triplets_) t->mask();
  } else if (step > config_.tinit && (step % config_.deltaT == 0 || step == last)) {
    const double left = 1 - static_cast<double>(step - config_.tinit) / static_cast<double>(last - config_.tinit);
    allocate(
        static_cast<int64_t>(static_cast<double>(all - wanted) * left * left * left + static_cast<double>(wanted)));
  }
  for (const auto& t : triplets_) t->grads.clear();
}

void AdaLora::allocate(int64_t budget) {
  std::vector<double> scores;
  for (const auto& t : triplets_) {
    for (const double s : t->scores()) scores.push_back(s);
  }
  const int64_t off = static_cast<int64_t>(scores.size()) - budget;
  if (off <= 0) return;
  std::vector<double> sorted = scores;
  std::nth_element(sorted.begin(), sorted.begin() + (off - 1), sorted.end());
  const double threshold = sorted[static_cast<size_t>(off - 1)];
  size_t i = 0;
  for (const auto& t : triplets_) {
    for (int64_t r = 0; r < t->kept.numel(); ++r) t->kept.data<int64_t>()[r] = scores[i++] > threshold;
    t->mask();
  }
}

int64_t AdaLora::active() const {
  int64_t count = 0;
  for (const auto& t : triplets_) {
    for (const double e : t->E.value().values()) count += e != 0;
  }
  return count;
}

std::vector<std::pair<std::string, Tensor>> AdaLora::state() const {
  auto tensors = EditMethod::state();
  for (const auto& t : triplets_) {
    const std::string module = t->module();
    tensors.emplace_back(io::peft_key(module, "adalora_kept"), t->kept);
    const char* names[] = {"A", "B", "E"};
    for (size_t k = 0; k < 3; ++k) {
      tensors.emplace_back(io::peft_key(module, str("adalora_importance_", names[k])), t->importance[k]);
      tensors.emplace_back(io::peft_key(module, str("adalora_uncertainty_", names[k])), t->uncertainty[k]);
    }
  }
  return tensors;
}

void AdaLora::load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) {
  EditMethod::load_state(tensors);
  const bool resumed = std::any_of(tensors.begin(), tensors.end(),
                                   [](const auto& t) { return t.first.find(".adalora_") != std::string::npos; });
  if (!resumed) return;  // an adapter: nothing to go on with
  for (const auto& t : triplets_) {
    auto read = [&](const std::string& suffix, Tensor to) {
      const std::string key = io::peft_key(t->module(), suffix);
      const Tensor from = stored_tensor(tensors, key, to.shape());
      if (from.dtype() != to.dtype())
        usage_error("adapter: ", key, " holds ", dtype_name(from.dtype()), ", expected ", dtype_name(to.dtype()));
      to.copy_from(from);
    };
    read("adalora_kept", t->kept);
    const char* names[] = {"A", "B", "E"};
    for (size_t k = 0; k < 3; ++k) {
      read(str("adalora_importance_", names[k]), t->importance[k]);
      read(str("adalora_uncertainty_", names[k]), t->uncertainty[k]);
    }
  }
}

std::vector<MethodOptions> AdaLora::from_peft(const Json& config, const std::string& where) {
  refuse_set(config,
             {"exclude_modules", "modules_to_save", "layers_to_transform", "target_parameters",
              "trainable_token_indices", "rank_pattern"},
             where);
  if (text_in(config, "bias", where, "none") != "none") usage_error(where, ": bias is not \"none\"");
  if (!is_set(config, "target_modules")) usage_error(where, ": target_modules is missing");
  return {{AdaLoraConfig::kName, taken(config, {"target_r", "init_r", "tinit", "tfinal", "deltaT", "beta1", "beta2",
                                                "orth_reg_weight", "lora_alpha", "target_modules"})}};
}

// Directions that are off stay in the file with e = 0, which says the same without rank_pattern.
Json AdaLora::peft_config() const {
  Json json = peft_base(kPeftType);
  json.update({{"target_r", config_.target_r},
               {"init_r", config_.init_r},
               {"tinit", config_.tinit},
               {"tfinal", config_.tfinal},
               {"deltaT", config_.deltaT},
               {"beta1", config_.beta1},
               {"beta2", config_.beta2},
               {"orth_reg_weight", config_.orth_reg_weight},
               {"total_step", std::max(info_.steps, config_.tinit + config_.tfinal + 1)},
               {"lora_alpha", json_number(config_.lora_alpha)},
               {"lora_dropout", 0.0},
               {"target_modules", whole_modules(edits_, AdaLoraConfig::kName)},
               {"bias", "none"},
               {"fan_in_fan_out", false},
               {"init_lora_weights", true},
               {"modules_to_save", nullptr}});
  return json;
}

}  // namespace molt::peft
