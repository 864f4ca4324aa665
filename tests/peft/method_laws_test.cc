// What holds for every method, whatever it does: attaching changes nothing; only its trainables get gradients, and all
// of them do; each of them matters; the count is right; state read back is the same model; merged equals adapted.
#include <set>

#include "tests/cases/methods.h"

namespace molt {
namespace {

using testing::begin;
using testing::disturb;
using testing::golden_dir;
using testing::GoldenStream;
using testing::merged_weight;
using testing::MethodCase;
using testing::relative_error;
using testing::TunedModel;

class MethodLaws : public ::testing::TestWithParam<MethodCase> {
 protected:
  const GoldenStream stream{io::SafetensorsFile(golden_dir(GetParam().model) + "/golden.safetensors")};

  std::vector<double> plain_logits(Dtype dtype) const {
    const TunedModel plain(GetParam().model, dtype, {});
    return plain.base_logits(stream).values();
  }
};

TEST_P(MethodLaws, AttachingChangesNothing) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    const TunedModel tuned = begin(GetParam(), dtype);
    EXPECT_FALSE(tuned.trainables().empty());
    const std::vector<double> plain = plain_logits(dtype);
    for (const nn::Context& c : {nn::Context{}, nn::Context{.training = true, .seed = 3}}) {
      if (GetParam().start == 0) {
        EXPECT_EQ(tuned.logits(stream, c).values(), plain) << dtype_name(dtype);
      } else {
        EXPECT_LE(relative_error(tuned.logits(stream, c).values(), plain), GetParam().start) << dtype_name(dtype);
      }
    }
  }
}

TEST_P(MethodLaws, AllItsTrainablesAndNothingElseGetGradients) {
  const TunedModel tuned = begin(GetParam(), Dtype::kF64);
  disturb(tuned, 1);
  std::set<const GradNode*> trained;
  for (const nn::Trainable& t : tuned.trainables()) trained.insert(t.var.node().get());
  EXPECT_EQ(trained.size(), tuned.trainables().size()) << "two trainables are one";
  for (const nn::Parameter& p : tuned.model().parameters()) {
    EXPECT_EQ(p.trained, p.var.needs_grad()) << p.path;
    EXPECT_EQ(p.trained, trained.count(p.var.node().get()) > 0 && p.var.node()) << p.path;
  }
  const nn::LossSum loss = tuned.loss(stream);
  if (loss.sum.needs_grad()) backward(loss.sum);
  for (const nn::Trainable& t : tuned.trainables()) {
    if (GetParam().rests(t.name, 0)) {
      EXPECT_FALSE(t.var.grad().defined()) << t.name;
      continue;
    }
    ASSERT_TRUE(t.var.grad().defined()) << t.name;
    EXPECT_EQ(t.var.grad().shape(), t.var.value().shape()) << t.name;
    double largest = 0;
    for (const double g : t.var.grad().values()) largest = std::max(largest, std::abs(g));
    EXPECT_GT(largest, 1e-9) << t.name;
  }
}

TEST_P(MethodLaws, RecomputingChangesNoBit) {
  const TunedModel tuned = begin(GetParam(), Dtype::kF32);
  disturb(tuned, 1);
  std::vector<std::vector<double>> kept;
  for (const bool recompute : {false, true}) {
    const nn::LossSum loss = tuned.loss(stream, {.training = true, .seed = 3, .step = 2, .recompute = recompute});
    if (loss.sum.needs_grad()) backward(loss.sum);
    std::vector<std::vector<double>> now{loss.sum.value().values()};
    for (const nn::Trainable& t : tuned.trainables()) {
      if (GetParam().rests(t.name, 0)) continue;
      ASSERT_TRUE(t.var.grad().defined()) << t.name;
      now.push_back(t.var.grad().values());
      t.var.clear_grad();
    }
    if (recompute) {
      EXPECT_EQ(now, kept);
    } else {
      kept = now;
    }
  }
}

TEST_P(MethodLaws, EveryTrainableMatters) {
  const TunedModel tuned = begin(GetParam(), Dtype::kF64);
  disturb(tuned, 1);
  const Tensor before = tuned.logits(stream);
  uint64_t seed = 50;
  for (const nn::Trainable& t : tuned.trainables()) {
    Tensor value = t.var.value();
    const Tensor kept = value.clone();
    value.add(testing::random_tensor(value.shape(), ++seed, 0.01));
    tuned.after_step();
    // Well above what f64 rounds away, well below the change itself.
    const bool idle = !GetParam().idle.empty() && t.name.find(GetParam().idle) != std::string::npos;
    if (!idle) {
      EXPECT_GT(relative_error(tuned.logits(stream), before), 1e-9) << t.name;
    }
    value.copy_from(kept);
    tuned.after_step();
  }
  EXPECT_EQ(tuned.logits(stream).values(), before.values());
}

class LawsOfLastPhases : public MethodLaws {};
TEST_P(LawsOfLastPhases, TrainableCountIsWhatTrains) {
  const TunedModel tuned = begin(GetParam(), Dtype::kF32);
  int64_t numbers = 0, counted = 0;
  for (const nn::Trainable& t : tuned.trainables()) numbers += t.var.value().numel();
  for (const nn::Method* method : tuned.methods()) counted += method->trainable_count();
  EXPECT_EQ(counted, numbers);
}

TEST_P(MethodLaws, TrainablesHaveNamesOfTheirOwn) {
  std::set<std::string> names;
  const TunedModel tuned = begin(GetParam(), Dtype::kF32);
  for (const nn::Trainable& t : tuned.trainables()) EXPECT_TRUE(names.insert(t.name).second) << t.name;
}

TEST_P(MethodLaws, StateReadBackIsTheSameModel) {
  for (const Dtype dtype : {Dtype::kF32, Dtype::kF64}) {
    const TunedModel tuned = begin(GetParam(), dtype);
    disturb(tuned, 1);
    TunedModel fresh(GetParam().model, dtype, GetParam().methods);
    disturb(fresh, 1000);  // what was there must not shine through
    for (size_t m = 0; m < tuned.method_count(); ++m) {
      io::NamedTensors copies;
      for (const auto& [name, tensor] : tuned.method(m).state()) copies.emplace_back(name, tensor.clone());
      fresh.method(m).load_state(copies);
    }
    fresh.bind();
    const auto before = tuned.trainables(), after = fresh.trainables();
    ASSERT_EQ(after.size(), before.size());
    for (size_t i = 0; i < before.size(); ++i) {
      EXPECT_EQ(after[i].name, before[i].name);
      EXPECT_EQ(after[i].decays, before[i].decays);
      EXPECT_EQ(after[i].var.value().values(), before[i].var.value().values()) << before[i].name;
    }
    EXPECT_EQ(fresh.logits(stream).values(), tuned.logits(stream).values());
  }
}

// Beside a method with a warm-up, what that phase taught the others is forgotten. Whole tensors of
// the base are given back by training itself (train/trainer_test.cc).
TEST_P(MethodLaws, ALaterPhaseBeginsAnew) {
  TunedModel tuned(GetParam().model, Dtype::kF64, GetParam().methods);
  for (const nn::Method* method : tuned.methods())
    if (method->phases().size() > 1 || !method->base_trainables().empty()) return;
  std::vector<std::vector<double>> start;
  for (const nn::Trainable& t : tuned.trainables()) start.push_back(t.var.value().values());
  const Tensor logits = tuned.logits(stream);
  disturb(tuned, 1);
  tuned.begin_phase(1);
  const auto again = tuned.trainables();
  ASSERT_EQ(again.size(), start.size());
  for (size_t i = 0; i < start.size(); ++i) EXPECT_EQ(again[i].var.value().values(), start[i]) << again[i].name;
  EXPECT_EQ(tuned.logits(stream).values(), logits.values());
}

TEST_P(MethodLaws, IncompleteOrMisshapenStateIsRefusedByName) {
  const TunedModel tuned = begin(GetParam(), Dtype::kF32);
  for (size_t m = 0; m < tuned.method_count(); ++m) {
    const io::NamedTensors state = tuned.method(m).state();
    for (size_t i = 0; i < state.size(); ++i) {
      for (const bool missing : {true, false}) {
        io::NamedTensors changed = state;
        if (missing) {
          changed.erase(changed.begin() + static_cast<std::ptrdiff_t>(i));
        } else {
          Shape shape = state[i].second.shape();
          ++shape[0];
          changed[i].second = Tensor::zeros(shape, state[i].second.dtype());
        }
        TunedModel fresh(GetParam().model, Dtype::kF32, GetParam().methods);
        try {
          fresh.method(m).load_state(changed);
          ADD_FAILURE() << state[i].first << (missing ? " missing" : " misshapen") << " went unnoticed";
        } catch (const UsageError& error) {
          // The module at least: a wrong number of indices shows in the tensor that goes with them.
          const std::string module = state[i].first.substr(0, state[i].first.rfind("mixer"));
          EXPECT_NE(std::string(error.what()).find(module.substr(std::string("base_model.model.").size())),
                    std::string::npos)
              << error.what();
        }
      }
    }
  }
}

class LawsOfMerging : public MethodLaws {};
TEST_P(LawsOfMerging, MergedEqualsAdapted) {
  const TunedModel tuned = begin(GetParam(), Dtype::kF64);
  disturb(tuned, 1);
  const TunedModel merged(GetParam().model, Dtype::kF64, {});
  for (nn::Parameter& p : merged.model().parameters()) {
    for (const nn::Parameter& ours : tuned.model().parameters()) {
      if (ours.path == p.path) p.set(merged_weight(tuned, ours, Dtype::kF64), testing::all_in(Dtype::kF64), true);
    }
  }
  EXPECT_LT(relative_error(merged.base_logits(stream), tuned.logits(stream)), 1e-12);
  EXPECT_GT(relative_error(merged.base_logits(stream).values(), plain_logits(Dtype::kF64)), 1e-6);
}

class LawsOfWarmUps : public MethodLaws {};
TEST_P(LawsOfWarmUps, CannotBeMerged) {
  const TunedModel tuned = begin(GetParam(), Dtype::kF64);
  int refused = 0;
  for (const auto& [id, edit] : tuned.edits().all()) {
    if (edit->trainables().empty()) continue;
    const std::string name = edit->trainables()[0].name;
    if (name.find("sdt_warmup") == std::string::npos && name.find("diffora") == std::string::npos) continue;
    const nn::Site& site = tuned.model().sites().all()[static_cast<size_t>(id)];
    EXPECT_THROW(edit->merge(site, Tensor::zeros(site.shape, Dtype::kF64)), UsageError) << site.path;
    ++refused;
  }
  EXPECT_GT(refused, 0);
}

std::vector<MethodCase> chosen(const std::function<bool(const MethodCase&)>& wanted) {
  std::vector<MethodCase> cases;
  for (const MethodCase& c : testing::method_cases()) {
    if (wanted(c)) cases.push_back(c);
  }
  return cases;
}
const auto kName = [](const auto& info) { return info.param.name; };

INSTANTIATE_TEST_SUITE_P(Cases, MethodLaws, ::testing::ValuesIn(testing::method_cases()), kName);
INSTANTIATE_TEST_SUITE_P(Cases, LawsOfMerging,
                         ::testing::ValuesIn(chosen([](const MethodCase& c) { return c.merges; })), kName);
INSTANTIATE_TEST_SUITE_P(Cases, LawsOfWarmUps,
                         ::testing::ValuesIn(chosen([](const MethodCase& c) { return !c.last_phase; })), kName);
INSTANTIATE_TEST_SUITE_P(Cases, LawsOfLastPhases,
                         ::testing::ValuesIn(chosen([](const MethodCase& c) { return c.last_phase; })), kName);

}  // namespace
}  // namespace molt
