// EVA's initial values against eigenvectors of the inputs' covariance, gathered and computed here in double precision,
// and against numpy's singular vectors of what transformers hands to its modules, with ten losses from there.
#include <algorithm>
#include <cmath>

#include "molt/app/methods.h"
#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/data/batch.h"
#include "molt/optim/adamw.h"
#include "molt/peft/activation_pca.h"
#include "tests/cases/methods.h"

namespace molt {
namespace {

using testing::GoldenStream;
using testing::random_tensor;
using testing::relative_error;
using testing::TunedModel;
using Rows = std::vector<std::vector<double>>;

/// Keeps every labelled row that comes in.
class Gather final : public nn::Edit {
 public:
  Var change_input(const nn::EditContext& e, const Var& x) const override {
    const std::vector<double> values = x.value().values();
    const auto width = static_cast<size_t>(x.value().cols());
    for (size_t t = 0; t < e.run.labels->size(); ++t) {
      if ((*e.run.labels)[t] == data::kIgnored) continue;
      const auto first = values.begin() + static_cast<int64_t>(t * width);
      rows.emplace_back(first, first + static_cast<int64_t>(width));
    }
    return x;
  }
  std::vector<nn::Trainable> trainables() const override { return {}; }
  mutable Rows rows;
};

/// Eigenvectors of the covariance, by power iteration with deflation; unit length, largest first.
Rows principal_directions(const Rows& rows, size_t count) {
  const size_t n = rows.size(), I = rows[0].size();
  std::vector<double> mean(I, 0);
  for (const auto& row : rows) {
    for (size_t i = 0; i < I; ++i) mean[i] += row[i] / static_cast<double>(n);
  }
  Rows cov(I, std::vector<double>(I, 0));
  for (const auto& row : rows) {
    for (size_t i = 0; i < I; ++i) {
      for (size_t j = 0; j < I; ++j) cov[i][j] += (row[i] - mean[i]) * (row[j] - mean[j]);
    }
  }
  Rows found;
  for (size_t k = 0; k < count; ++k) {
    std::vector<double> v(I);
    for (size_t i = 0; i < I; ++i) v[i] = std::sin(static_cast<double>(i * (k + 2) + 1));
    double value = 0;
    for (int step = 0; step < 20000; ++step) {
      std::vector<double> w(I, 0);
      for (size_t i = 0; i < I; ++i) {
        for (size_t j = 0; j < I; ++j) w[i] += cov[i][j] * v[j];
      }
      double norm = 0;
      for (const double x : w) norm += x * x;
      value = std::sqrt(norm);
      for (size_t i = 0; i < I; ++i) v[i] = w[i] / value;
    }
    for (size_t i = 0; i < I; ++i) {
      for (size_t j = 0; j < I; ++j) cov[i][j] -= value * v[i] * v[j];
    }
    found.push_back(v);
  }
  return found;
}

double aligned(const std::vector<double>& a, const double* b) {
  double dot = 0;
  for (size_t i = 0; i < a.size(); ++i) dot += a[i] * b[i];
  return std::abs(dot);
}

testing::MakeMethod eva(std::vector<std::string> targets, int64_t r) {
  return testing::with<peft::Lora>(
      {.r = r, .lora_alpha = 6, .init_lora_weights = "eva", .target_modules = std::move(targets)});
}

/// What the trainer does before the first step, with the stream as two batches.
void observe(const TunedModel& tuned, const GoldenStream& stream, nn::EditSet& looking) {
  const NoGrad no_grad;
  for (int64_t part = 0; part < 2; ++part) {
    GoldenStream half = stream;
    if (part == 1) std::reverse(half.ids.begin(), half.ids.end());
    tuned.model().hidden({.segments = &half.segments, .edits = &looking, .labels = &half.labels}, half.ids);
  }
}

TEST(Eva, StartsFromTheInputsPrincipalDirections) {
  for (const std::string model : {"tied_small", "untied_odd"}) {
    const GoldenStream stream{io::SafetensorsFile(testing::golden_dir(model) + "/golden.safetensors")};
    const TunedModel tuned(model, Dtype::kF64, {eva({"in_proj", "x_proj:B", "x_proj:C", "out_proj"}, 4)});
    nn::Method& method = tuned.method();
    ASSERT_EQ(method.observed_batches(), 4);
    const std::vector<double> before = tuned.logits(stream).values();
    nn::EditSet looking;
    method.observe(looking);
    std::map<std::string, std::shared_ptr<Gather>> gathered;
    for (const nn::Site& site : tuned.model().sites().all()) {
      if (site.kind != nn::SiteKind::kLinear || site.layer < 0) continue;
      gathered[site.path] = std::make_shared<Gather>();
      looking.add(site, gathered[site.path]);
    }
    observe(tuned, stream, looking);
    method.observed();
    EXPECT_EQ(tuned.logits(stream).values(), before);  // B is 0: nothing has changed, bit for bit
    int checked = 0;
    for (const nn::Trainable& t : tuned.trainables()) {
      const size_t end = t.name.rfind(".lora_A");
      if (end == std::string::npos) continue;
      const std::string label = t.name.substr(0, end);
      const Rows& rows = gathered.at(label.substr(0, label.find(':')))->rows;
      const Rows expected = principal_directions(rows, 4);
      const std::vector<double> a = t.var.value().values();
      for (size_t k = 0; k < 4; ++k) {
        // in_proj: all of its 16 or 10 directions are kept from batch to batch. The others drop some of 32 or 30.
        const double* row = a.data() + k * expected[0].size();
        EXPECT_GT(aligned(expected[k], row), expected[0].size() <= 16 ? 1 - 1e-9 : 0.99) << t.name << " row " << k;
        double length = 0;
        for (size_t i = 0; i < expected[0].size(); ++i) length += row[i] * row[i];
        EXPECT_NEAR(length, 1, 1e-9);
      }
      ++checked;
    }
    EXPECT_GE(checked, 8);
    // The same batches give the same bits again, and a file brings them back.
    const std::vector<double> once = tuned.trainables()[0].var.value().values();
    nn::EditSet again;
    method.observe(again);
    observe(tuned, stream, again);
    method.observed();
    EXPECT_EQ(tuned.trainables()[0].var.value().values(), once);
  }
}

// The whole stream as one batch. Where not all directions of the inputs are kept, the leading ones are found by
// iteration, which is why weights may differ by more than rounding; Adam shrinks it in losses.
TEST(Eva, NumpysSingularVectorsAndTenLosses) {
  for (const std::string model : {"tied_small", "untied_odd"}) {
    const std::string directory = testing::golden_dir(model + "/eva");
    const Json golden_json = read_json_file(directory + "/golden.json"), &settings = golden_json.at("settings");
    const io::SafetensorsFile golden(directory + "/golden.safetensors");
    const GoldenStream stream{io::SafetensorsFile(testing::golden_dir(model) + "/golden.safetensors")};
    const TunedModel tuned(model, Dtype::kF64,
                           {eva(settings.at("target_modules").get<std::vector<std::string>>(), settings.at("r"))});
    nn::EditSet looking;
    tuned.method().observe(looking);
    {
      const NoGrad no_grad;
      tuned.model().hidden({.segments = &stream.segments, .edits = &looking, .labels = &stream.labels}, stream.ids);
    }
    tuned.method().observed();
    size_t seen = 0;
    for (const nn::Trainable& t : tuned.trainables()) {
      if (t.name.find(".lora_A") == std::string::npos) continue;
      const Tensor expected = golden.tensor("init.base_model.model." + t.name + ".weight");
      EXPECT_LT(relative_error(t.var.value(), expected), 1e-6) << t.name;
      ++seen;
    }
    EXPECT_EQ(seen, golden.names().size());
    optim::AdamW optimizer(tuned.parameters(), {});
    const Json& losses = golden_json.at("losses_f64");
    for (size_t k = 0; k < losses.size(); ++k) {
      const nn::LossSum loss = tuned.loss(stream);
      backward(loss.sum);
      const double scale = 1 / static_cast<double>(loss.count);
      EXPECT_NEAR(loss.sum.value().values()[0] * scale / losses[k].get<double>(), 1, 1e-7) << "step " << k;
      optimizer.step(settings.at("lr").get<double>(), scale);
      tuned.after_step();
    }
  }
}

const size_t kPrefix = std::string("base_model.model.").size();

/// Ranks by path, from PEFT's form.
std::map<std::string, int64_t> ranks_of(const nn::Method& method) {
  std::map<std::string, int64_t> ranks;
  for (const auto& [name, tensor] : method.state()) {
    const size_t end = name.rfind(".lora_A.weight");
    if (end != std::string::npos) ranks[name.substr(kPrefix, end - kPrefix)] = tensor.rows();
  }
  return ranks;
}

void observe_all(TunedModel& tuned, const std::vector<int32_t>& ids, const std::vector<int32_t>& labels) {
  nn::EditSet looking;
  tuned.method().observe(looking);
  const Segments segments = Segments::one(static_cast<int64_t>(ids.size()));
  const NoGrad no_grad;
  tuned.model().hidden({.segments = &segments, .edits = &looking, .labels = &labels}, ids);
  tuned.method().observed();
  tuned.bind();
}

peft::LoraConfig moving(int64_t r, double rho, std::vector<std::string> targets) {
  return {.r = r, .lora_alpha = 6, .init_lora_weights = "eva", .eva_rho = rho, .target_modules = std::move(targets)};
}

TEST(Eva, RanksMoveAsPeftMovesThem) {
  for (const std::string model : {"tied_small", "untied_odd"}) {
    const std::string directory = testing::golden_dir(model + "/eva_rho");
    const Json golden_json = read_json_file(directory + "/golden.json"), &settings = golden_json.at("settings");
    const io::SafetensorsFile golden(directory + "/golden.safetensors");
    const auto config = moving(settings.at("r"), settings.at("rho"), settings.at("target_modules"));
    TunedModel tuned(model, Dtype::kF64, {testing::with<peft::Lora>(config)});
    observe_all(tuned, golden_json.at("tokens"), golden_json.at("labels"));
    const auto expected = golden_json.at("ranks").get<std::map<std::string, int64_t>>();
    EXPECT_EQ(ranks_of(tuned.method()), expected);
    EXPECT_TRUE(std::any_of(expected.begin(), expected.end(), [&](const auto& e) { return e.second != config.r; }));
    const Json peft_config = tuned.method().peft_config();
    for (const auto& [name, tensor] : tuned.method().state()) {
      if (name.find("lora_A") == std::string::npos) continue;
      const std::string path = name.substr(kPrefix, name.rfind(".lora_A") - kPrefix);
      const Tensor stored = golden.tensor("init." + path);
      ASSERT_EQ(tensor.shape(), stored.shape()) << path;
      const std::vector<double> a = tensor.values(), b = stored.values();
      const auto width = static_cast<size_t>(stored.cols());
      for (size_t k = 0; k < static_cast<size_t>(stored.rows()); ++k) {
        // PEFT stops where directions turn by less than 0.99 from batch to batch, and goes on in f32.
        const std::vector<double> row(b.begin() + static_cast<int64_t>(k * width),
                                      b.begin() + static_cast<int64_t>((k + 1) * width));
        EXPECT_GT(aligned(row, a.data() + k * width), 0.999) << path << " row " << k;
      }
      const double alpha = peft_config.at("alpha_pattern").value(path, peft_config.at("lora_alpha").get<double>());
      EXPECT_DOUBLE_EQ(alpha / static_cast<double>(stored.rows()), golden_json.at("scales").at(path).get<double>())
          << path;
    }
  }
}

// A target whose inputs vary little may end with nothing; what is written can be read back, by an adapter's config,
// which names the ranks, and by the recipe's, as a resumed run does.
TEST(Eva, MovedRanksAreReadBack) {
  const GoldenStream stream{io::SafetensorsFile(testing::golden_dir("tied_small") + "/golden.safetensors")};
  const auto config = moving(1, 8, {"in_proj", "x_proj:B", "x_proj:C", "out_proj"});
  TunedModel tuned("tied_small", Dtype::kF64, {testing::with<peft::Lora>(config)});
  observe_all(tuned, stream.ids, stream.labels);
  const auto ranks = ranks_of(tuned.method());
  EXPECT_LT(ranks.size(), 6u);  // two layers, of which some target has none
  int64_t all = 0;
  for (const auto& [path, rank] : ranks) all += rank;
  EXPECT_EQ(all, 8);  // a rank for each of four targets in two layers, as before; slices are stacked
  EXPECT_EQ(tuned.logits(stream).values(), tuned.base_logits(stream).values());
  for (const nn::Trainable& t : tuned.trainables()) {
    Tensor value = t.var.value();
    value.add(random_tensor(value.shape(), 9, 0.1));
  }
  const Tensor expected = tuned.logits(stream);
  const auto read_back = [&](const Json& options) {
    const app::MethodEntry entry{"lora", app::YamlNode::parse(options.dump(), "test")};
    TunedModel again("tied_small", Dtype::kF64, {[&](Dtype d) { return app::make_method(entry, 7, d); }});
    again.method().load_state(tuned.method().state());
    again.bind();
    EXPECT_EQ(again.logits(stream).values(), expected.values());
    EXPECT_EQ(again.method().trainable_count(), tuned.method().trainable_count());
  };
  Json own = tuned.method().config_json();
  EXPECT_EQ(own.at("eva_rho"), 1);
  EXPECT_EQ(own.at("rank_pattern").size(), ranks.size());
  own.erase("method");
  read_back(own);
  Json recipe = peft::Lora(config, 1, Dtype::kF64).config_json();
  recipe.erase("method");
  EXPECT_EQ(recipe.at("eva_rho"), 8);
  read_back(recipe);
  // A later phase begins with the recipe's ranks, to be moved by what it sees.
  tuned.begin_phase(1);
  EXPECT_EQ(ranks_of(tuned.method()).size(), 6u);
  EXPECT_THROW(peft::Lora(moving(1, 0.5, {"in_proj"}), 1, Dtype::kF32), UsageError);
}

TEST(Eva, PortionsDoNotMatterAndMissingDirectionsAreLeft) {
  const Tensor rows = random_tensor({40, 6}, 3);
  peft::IncrementalPca whole(6), parts(6);
  whole.add(rows);
  for (const auto& [begin, count] : {std::pair{0, 3}, {3, 1}, {4, 16}, {20, 20}})
    parts.add(rows.row_range(begin, count).clone());
  EXPECT_EQ(parts.rows_seen(), 40);
  const std::vector<double> a = whole.directions(6).values(), b = parts.directions(6).values();
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-9);
  double sum = 0;
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_NEAR(whole.explained()[i], parts.explained()[i], 1e-9);
    sum += whole.explained()[i];
  }
  EXPECT_NEAR(sum, 1, 1e-9);
  // Two rows vary in one direction, equal rows in none.
  peft::IncrementalPca two(6), none(6);
  two.add(rows.row_range(0, 2).clone());
  EXPECT_EQ(two.directions(6).rows(), 1);
  EXPECT_NEAR(two.explained()[0], 1, 1e-12);
  EXPECT_FALSE(peft::IncrementalPca(6).directions(6).defined());
  none.add(Tensor::zeros({5, 6}, Dtype::kF64));
  EXPECT_FALSE(none.directions(6).defined());
}

}  // namespace
}  // namespace molt
