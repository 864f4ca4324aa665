#include "molt/optim/adamw.h"

#include "molt/base/json.h"
#include "molt/device/cpu/parallel.h"
#include "molt/optim/clip.h"
#include "tests/cases/gradcheck.h"

namespace molt {
namespace {

using optim::AdamW;
using optim::AdamWConfig;
using optim::Parameter;
using testing::random_tensor;

Tensor tensor_of(const Json& numbers, Dtype dtype) {
  const auto values = numbers.get<std::vector<double>>();
  return Tensor::from(values, {static_cast<int64_t>(values.size())}).to(dtype);
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

TEST(AdamW, FollowsTorch) {
  const Json golden = read_json_file(MOLT_SOURCE_DIR "/tests/golden/adamw/golden.json");
  const AdamWConfig config = {.beta1 = golden["adam"]["betas"][0],
                              .beta2 = golden["adam"]["betas"][1],
                              .eps = golden["adam"]["eps"],
                              .weight_decay = golden["adam"]["weight_decay"]};
  for (const Dtype dtype : {Dtype::kF64, Dtype::kF32}) {
    std::vector<Parameter> parameters;
    for (const Json& p : golden["parameters"])
      parameters.push_back({p["name"], Var::leaf(tensor_of(p["start"], dtype)), p["lr_scale"], p["decay"]});
    AdamW adamw(parameters, config);
    for (size_t step = 0; step < golden["rates"].size(); ++step) {
      for (size_t i = 0; i < parameters.size(); ++i) {
        const Json& p = golden["parameters"][i];
        if (p["skipped_step"] == step) continue;
        Tensor grad = tensor_of(p["grads"][step], dtype);
        grad.scale(4);
        parameters[i].var.set_grad(grad);
      }
      adamw.step(golden["rates"][step], 0.25);
      for (size_t i = 0; i < parameters.size(); ++i) {
        const Json& p = golden["parameters"][i];
        // f32 may stray from torch's f64 as far as torch's own f32 does: its roundings are others, their number alike.
        const auto expected = p["values"][step].get<std::vector<double>>();
        const double allowed =
            dtype == Dtype::kF64 ? 1e-15 : 4e-7 + largest_difference(p["values_f32"][step], expected);
        EXPECT_LE(largest_difference(parameters[i].var.value().values(), expected), allowed)
            << p["name"] << " after step " << step << " in " << dtype_name(dtype);
        EXPECT_FALSE(parameters[i].var.grad().defined());
      }
    }
    const auto state = adamw.state();
    for (size_t i = 0; i < parameters.size(); ++i) {
      const Json& expected = golden["parameters"][i]["state"];
      const double tolerance = dtype == Dtype::kF64 ? 1e-15 : 1e-6;  // six updates, each a few roundings
      EXPECT_LT(testing::relative_error(state[3 * i].second.values(), expected["exp_avg"]), tolerance);
      EXPECT_LT(testing::relative_error(state[3 * i + 1].second.values(), expected["exp_avg_sq"]), tolerance);
      EXPECT_EQ(state[3 * i + 2].second.values()[0], expected["step"]);
    }
  }
}

/// Three parameters, one with a set of rows and one longer than a thread's share; gradients depend on the values.
struct Model {
  std::vector<Parameter> parameters;
  Model() {
    parameters.push_back({"small", Var::leaf(random_tensor({3, 5}, 1, 1, 0, Dtype::kF32))});
    parameters.push_back({"long", Var::leaf(random_tensor({40, 1000}, 2, 1, 0, Dtype::kF32)), 0.5, false});
    parameters.push_back({"rows", Var::leaf(random_tensor({6, 7}, 3), make_index_set({1, 4}))});
  }
  void make_grads(int step) const {
    for (size_t i = 0; i < parameters.size(); ++i) {
      const Var& var = parameters[i].var;
      const Tensor noise = random_tensor(var.node()->shape, 100 * step + i);
      var.set_grad(noise.to(var.value().dtype()));
    }
  }
  std::vector<std::vector<double>> values() const {
    std::vector<std::vector<double>> all;
    for (const Parameter& p : parameters) all.push_back(p.var.value().values());
    return all;
  }
};

constexpr AdamWConfig kConfig = {.weight_decay = 0.01};

TEST(AdamW, TrainsTheChosenRowsOnly) {
  const Model model, other;
  AdamW adamw(model.parameters, kConfig);
  EXPECT_EQ(adamw.trainable_count(), 15 + 40000 + 14);
  model.make_grads(0);
  const Tensor grad = model.parameters[2].var.grad().clone();
  adamw.step(0.1);
  const auto before = other.values()[2], after = model.values()[2];
  for (size_t row = 0; row < 6; ++row) {
    for (size_t i = 0; i < 7; ++i) {
      const double old = before[row * 7 + i];
      if (row != 1 && row != 4) {
        EXPECT_EQ(after[row * 7 + i], old);
        continue;
      }
      // The first step is η · g / (|g| + eps), whatever the size of g.
      const double g = grad.values()[(row == 4) * 7 + i];
      EXPECT_NEAR(after[row * 7 + i], old * (1 - 0.1 * 0.01) - 0.1 * g / (std::abs(g) + 1e-8), 1e-14);
    }
  }
}

TEST(AdamW, ResumesBitForBit) {
  const Model whole, first;
  AdamW a(whole.parameters, kConfig), b(first.parameters, kConfig);
  for (int step = 0; step < 6; ++step) whole.make_grads(step), a.step(0.01 * (step + 1), 0.7);
  for (int step = 0; step < 3; ++step) first.make_grads(step), b.step(0.01 * (step + 1), 0.7);

  const Model second;
  for (size_t i = 0; i < second.parameters.size(); ++i)
    Tensor(second.parameters[i].var.value()).copy_from(first.parameters[i].var.value());
  AdamW c(second.parameters, kConfig);
  optim::NamedTensors saved;
  for (const auto& [name, tensor] : b.state()) saved.emplace_back(name, tensor.clone());
  std::reverse(saved.begin(), saved.end());  // files sort as they like
  c.load_state(saved);
  for (int step = 3; step < 6; ++step) second.make_grads(step), c.step(0.01 * (step + 1), 0.7);
  EXPECT_EQ(second.values(), whole.values());
  const auto mine = c.state(), theirs = a.state();
  for (size_t i = 0; i < mine.size(); ++i) EXPECT_EQ(mine[i].second.values(), theirs[i].second.values());
}

TEST(AdamW, SameBitsForAnyNumberOfThreads) {
  const int threads = thread_count();
  std::vector<std::vector<std::vector<double>>> values;
  std::vector<double> norms;
  for (const int count : {1, 2, 3}) {
    set_thread_count(count);
    const Model model;
    AdamW adamw(model.parameters, kConfig);
    for (int step = 0; step < 3; ++step) {
      model.make_grads(step);
      norms.push_back(optim::grad_norm(model.parameters));
      adamw.step(0.01, optim::clip_scale(norms.back(), 1));
    }
    values.push_back(model.values());
  }
  set_thread_count(threads);
  EXPECT_EQ(values[0], values[1]);
  EXPECT_EQ(values[0], values[2]);
  for (size_t i = 3; i < norms.size(); ++i) EXPECT_EQ(norms[i], norms[i - 3]);
}

TEST(AdamW, RefusesAStateThatIsNotItsOwn) {
  const Model model;
  AdamW adamw(model.parameters, kConfig);
  auto changed = [&](auto change) {
    optim::NamedTensors tensors;
    for (const auto& [name, tensor] : adamw.state()) tensors.emplace_back(name, tensor.clone());
    change(tensors);
    return tensors;
  };
  const auto missing = changed([](auto& t) { t.pop_back(); });
  const auto extra = changed([](auto& t) { t.emplace_back("other.exp_avg", t[0].second); });
  const auto twice = changed([](auto& t) { t.push_back(t[0]); });
  const auto shape = changed([](auto& t) { t[0].second = Tensor::zeros({5, 3}, Dtype::kF32); });
  const auto dtype = changed([](auto& t) { t[1].second = t[1].second.to(Dtype::kF64); });
  for (const auto& bad : {missing, extra, twice, shape, dtype}) EXPECT_THROW(adamw.load_state(bad), UsageError);
  adamw.load_state(changed([](auto&) {}));
}

TEST(AdamW, RefusesWhatItCannotTrain) {
  const Var leaf = Var::leaf(random_tensor({3}, 1));
  auto make = [](std::vector<Parameter> parameters, AdamWConfig config = {}) { AdamW(std::move(parameters), config); };
  EXPECT_THROW(make({{"a", Var(random_tensor({3}, 1))}}), InternalError);
  EXPECT_THROW(make({{"a", leaf}, {"b", leaf}}), InternalError);
  EXPECT_THROW(make({{"a", leaf}, {"a", Var::leaf(random_tensor({3}, 1))}}), InternalError);
  EXPECT_THROW(make({{"a", Var::leaf(random_tensor({3}, 1, 1, 0, Dtype::kBf16))}}), InternalError);
  EXPECT_THROW(make({{"a", leaf}}, {.beta1 = 1}), UsageError);
  EXPECT_THROW(make({{"a", leaf}}, {.beta2 = -0.1}), UsageError);
  EXPECT_THROW(make({{"a", leaf}}, {.eps = -1}), UsageError);
  EXPECT_THROW(make({{"a", leaf}}, {.weight_decay = std::nan("")}), UsageError);
}

TEST(GradNorm, IsThatOfAllGradients) {
  const Model model;
  model.make_grads(7);
  model.parameters[0].var.clear_grad();
  double sum = 0;
  for (const size_t i : {1u, 2u}) {
    for (const double g : model.parameters[i].var.grad().values()) sum += g * g;
  }
  EXPECT_NEAR(optim::grad_norm(model.parameters), std::sqrt(sum), 1e-12 * std::sqrt(sum));
  // A gradient that is a view of some columns.
  const Var leaf = Var::leaf(random_tensor({3, 4}, 1));
  const Tensor view = random_tensor({3, 9}, 2).col_range(2, 4);
  leaf.set_grad(view);
  sum = 0;
  for (const double g : view.values()) sum += g * g;
  EXPECT_NEAR(optim::grad_norm({{"a", leaf}}), std::sqrt(sum), 1e-14);
}

TEST(GradNorm, ShowsWhatIsNotFinite) {
  const Model model;
  model.make_grads(7);
  model.parameters[1].var.grad().data<float>()[39999] = std::nanf("");
  const double norm = optim::grad_norm(model.parameters);
  EXPECT_TRUE(std::isnan(norm));
  EXPECT_TRUE(std::isnan(optim::clip_scale(norm, 1)));
}

TEST(ClipScale, FollowsTorch) {
  EXPECT_EQ(optim::clip_scale(0.5, 1), 1);
  EXPECT_EQ(optim::clip_scale(4, 1), 1 / (4 + 1e-6));
  EXPECT_EQ(optim::clip_scale(1, 1), 1 / (1 + 1e-6));
  EXPECT_EQ(optim::clip_scale(4, 0), 1);
}

}  // namespace
}  // namespace molt
