// SDT against a float64 re-implementation of the authors' code (tools/golden/sdt_reference.py): which channels and
// states are chosen, the warm-up's deltas, and the sparse phase beside LoRA on out_proj. Not among the cases: zeroed
// channels, which no published setting uses and Sdt does not have.
#include <algorithm>

#include "molt/base/file.h"
#include "molt/optim/adamw.h"
#include "molt/peft/sdt.h"
#include "molt/peft/sdt_select.h"
#include "tests/cases/peft_files.h"

namespace molt {
namespace {

using testing::file_key;
using testing::golden_dir;
using testing::GoldenStream;
using testing::relative_error;
using testing::TunedModel;

/// A golden selection in one layer, in Molt's order: channels ascending, entries e · N + n ascending; and where in the
/// golden order (by importance) each of them stands.
struct Picked {
  std::vector<int64_t> channels, entries;
  std::vector<size_t> channel_places, entry_places;

  Picked(const Json& layer, int64_t N) {
    std::vector<std::pair<int64_t, size_t>> c, e;
    for (size_t i = 0; i < layer.at("channels").size(); ++i) {
      const int64_t channel = layer.at("channels")[i].get<int64_t>();
      c.emplace_back(channel, c.size());
      for (const Json& state : layer.at("states")[i]) e.emplace_back(channel * N + state.get<int64_t>(), e.size());
    }
    std::sort(c.begin(), c.end());
    std::sort(e.begin(), e.end());
    for (const auto& [index, place] : c) channels.push_back(index), channel_places.push_back(place);
    for (const auto& [index, place] : e) entries.push_back(index), entry_places.push_back(place);
  }
};

class SdtGolden : public ::testing::TestWithParam<Dtype> {
 protected:
  const std::string directory = golden_dir("tied_small/sdt");
  const Json golden_json = read_json_file(directory + "/golden.json");
  const Json settings = golden_json.at("settings");
  const io::SafetensorsFile golden{directory + "/golden.safetensors"};
  const io::SafetensorsFile lora_init{directory + "/lora_init.safetensors"};
  const GoldenStream stream{io::SafetensorsFile(golden_dir("tied_small") + "/golden.safetensors")};
  const int64_t N = 4;
  const bool wide = GetParam() == Dtype::kF64;
  // Stored values are rounded to f32 (2^-24); the peer's own f32 run is off by about 1e-6 of a gradient's norm, and
  // Adam's first steps, which divide gradients by their own size, enlarge that in entries near zero.
  const double loss_tolerance = wide ? 1e-10 : 1e-6, value_tolerance = wide ? 1e-7 : 1e-4;

  TunedModel start() const {
    const Json& freeze = golden_json.at("selections").at("ratios").at("settings").at("freeze");
    const peft::SdtConfig sdt{.freeze_channels = freeze.at("channel").get<double>(),
                              .freeze_states = freeze.at("state").get<double>(),
                              .warmup_steps = settings.at("warmup_steps").get<int64_t>()};
    const Json& lora = settings.at("lora");
    const peft::LoraConfig out{.r = lora.at("r").get<int64_t>(),
                               .lora_alpha = lora.at("lora_alpha").get<double>(),
                               .target_modules = {lora.at("target").get<std::string>()}};
    return TunedModel(
        "tied_small", GetParam(),
        {[sdt](Dtype dtype) { return std::make_unique<peft::Sdt>(sdt, dtype); }, testing::make_lora(out)});
  }
  /// Begins a phase with the first LoRA tensors of the golden run, as both of its phases do.
  void begin(TunedModel& tuned, int phase) const {
    tuned.begin_phase(phase);
    io::NamedTensors tensors;
    for (const std::string& name : lora_init.names()) tensors.emplace_back(name, lora_init.tensor(name));
    tuned.method(1).load_state(tensors);
  }
  /// Steps of plain AdamW on the mean loss; `first` sees the state before the first update.
  void train(const TunedModel& tuned, const Json& losses, const std::function<void()>& first = {}) const {
    optim::AdamW optimizer(tuned.parameters(), {.weight_decay = settings.at("weight_decay").get<double>()});
    for (size_t k = 0; k < losses.size(); ++k) {
      const nn::LossSum loss = tuned.loss(stream);
      backward(loss.sum);
      const double scale = 1 / static_cast<double>(loss.count);
      EXPECT_NEAR(loss.sum.value().values()[0] * scale / losses[k].get<double>(), 1, loss_tolerance) << "step " << k;
      if (k == 0 && first) first();
      optimizer.step(settings.at("lr").get<double>(), scale);
      tuned.after_step();
    }
  }
  /// A golden leaf in Molt's order.
  Tensor leaf(const std::string& run, const std::string& name, const Picked& picked) const {
    const Tensor stored = golden.tensor(run + name);
    const std::vector<double> values = stored.values();
    std::vector<double> sorted;
    if (stored.rank() == 1) {
      for (const size_t place : picked.entry_places) sorted.push_back(values[place]);
    } else {
      for (int64_t n = 0; n < stored.rows(); ++n) {
        for (const size_t place : picked.channel_places)
          sorted.push_back(values[static_cast<size_t>(n * stored.cols()) + place]);
      }
    }
    return Tensor::from(sorted, stored.shape());
  }
  /// Every trainable of the sparse phase against the golden leaf of that name; `value` picks its value or gradient.
  void compare(const TunedModel& tuned, const std::string& run, const std::function<Tensor(const Var&)>& value) const {
    size_t seen = 0, expected = 0;
    for (const std::string& name : golden.names()) expected += name.rfind(run, 0) == 0;
    for (int layer = 0; layer < 2; ++layer) {
      const Picked picked(golden_json.at("selections").at("ratios").at("layers")[static_cast<size_t>(layer)], N);
      const std::string i = std::to_string(layer), mixer = "backbone.layers." + i + ".mixer.";
      for (const auto& [ours, theirs] : {std::pair{mixer + "A_log.sdt_delta", "A_log." + i},
                                         {mixer + "x_proj:B.sdt_delta", "B." + i},
                                         {mixer + "x_proj:C.sdt_delta", "C." + i}}) {
        EXPECT_LT(relative_error(value(tuned.trainable(ours)), leaf(run, theirs, picked)), value_tolerance) << ours;
        ++seen;
      }
      for (const char* side : {"out_proj.lora_A", "out_proj.lora_B"}) {
        const Tensor got = value(tuned.trainable(mixer + side)), want = golden.tensor(run + file_key(mixer + side));
        EXPECT_LT(relative_error(got, want), value_tolerance) << mixer << side;
        ++seen;
      }
    }
    EXPECT_EQ(seen, expected);
    EXPECT_EQ(seen, tuned.trainables().size());
  }
};

TEST_P(SdtGolden, WarmUpSelectionAndSparsePhase) {
  TunedModel tuned = start();
  begin(tuned, 0);
  train(tuned, golden_json.at("warmup").at("losses_f64"));
  for (const std::string i : {"0", "1"}) {
    const Var delta = tuned.trainable("backbone.layers." + i + ".mixer.A_log.sdt_warmup");
    EXPECT_LT(relative_error(delta.value(), golden.tensor("warmup.G." + i)), value_tolerance) << "layer " << i;
  }

  begin(tuned, 1);
  const auto& sdt = static_cast<const peft::Sdt&>(tuned.method(0));
  const Json& layers = golden_json.at("selections").at("ratios").at("layers");
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ(sdt.channels().at(i), Picked(layers[i], N).channels);
  // Everything is as it was before the warm-up.
  EXPECT_EQ(tuned.logits(stream).values(), tuned.base_logits(stream).values());

  const Json& sparse = golden_json.at("sparse").at("ratios");
  const double labels = static_cast<double>(
      std::count_if(stream.labels.begin(), stream.labels.end(), [](int32_t label) { return label >= 0; }));
  train(tuned, sparse.at("losses_f64"), [&] {
    compare(tuned, "ratios.grad0.", [&](const Var& v) {
      Tensor mean = v.grad().clone();  // of the sum; the golden loss is a mean
      mean.scale(1 / labels);
      return mean;
    });
  });
  compare(tuned, "ratios.final.", [](const Var& v) { return v.value(); });
  for (const nn::Parameter& p : tuned.model().parameters()) {
    if (!golden.has("ratios.params." + p.path)) continue;
    EXPECT_LT(relative_error(testing::merged_weight(tuned, p, GetParam()), golden.tensor("ratios.params." + p.path)),
              value_tolerance)
        << p.path;
  }
  const Json& count = sparse.at("trainable");
  EXPECT_EQ(sdt.trainable_count(), count.at("A_log").get<int64_t>() + count.at("x_proj").get<int64_t>());
  EXPECT_EQ(tuned.method(1).trainable_count(), count.at("lora").get<int64_t>());
}

INSTANTIATE_TEST_SUITE_P(Dtypes, SdtGolden, ::testing::Values(Dtype::kF64, Dtype::kF32),
                         [](const auto& info) { return dtype_name(info.param); });

TEST(SdtSelection, ChoosesWhatTheReferenceChooses) {
  const std::string directory = golden_dir("tied_small/sdt");
  const Json selections = read_json_file(directory + "/golden.json").at("selections");
  const io::SafetensorsFile golden(directory + "/golden.safetensors");
  int cases = 0;
  for (const auto& [name, selection] : selections.items()) {
    const Json &freeze = selection.at("settings").at("freeze"), &zero = selection.at("settings").at("zero");
    if (zero.at("channel") != 0 || zero.at("state") != 0) continue;
    ++cases;
    for (size_t i = 0; i < 2; ++i) {
      const Tensor G = golden.tensor(str("warmup.G.", i));
      const auto chosen = peft::select_dimensions(Tensor::zeros(G.shape(), Dtype::kF32), G, {}, "a_log",
                                                  freeze.at("channel").get<double>(), freeze.at("state").get<double>());
      const Picked picked(selection.at("layers")[i], G.dim(1));
      EXPECT_EQ(chosen.channels, picked.channels) << name << ", layer " << i;
      EXPECT_EQ(chosen.entries, picked.entries) << name << ", layer " << i;
    }
  }
  EXPECT_EQ(cases, 4);
}

TEST(SdtSelection, TiesGoToTheLowerIndex) {
  const Tensor change = Tensor::from(std::vector<double>{1, -1, 1, 0, 0, 0, -1, 1, 1, 2, 0, 0}, {4, 3});
  // Channels 0 and 2 move as much as each other, 3 more, 1 not at all.
  const auto chosen = peft::select_dimensions(Tensor::zeros({4, 3}, Dtype::kF64), change, {}, "a_log", 2, 1);
  EXPECT_EQ(chosen.channels, (IndexSet{0, 3}));
  EXPECT_EQ(chosen.entries, (std::vector<int64_t>{0, 1, 9, 10}));
}

TEST(SdtSelection, ByTheTransitionItselfAsThePaperSays) {
  // One state per channel: Ābar = exp(−dt · exp(A_log)). A_log 0 -> 1 with dt 1 moves e^-1 to e^-e: 0.302; A_log 3 -> 5
  // moves e^-20.1 to e^-148: nothing, though A_log itself moved twice as far; a small dt makes a long memory that the
  // same change of A_log hardly touches.
  const Tensor A_log = Tensor::from(std::vector<double>{0, 3, 0}, {3, 1});
  const Tensor change = Tensor::from(std::vector<double>{1, 2, 1}, {3, 1});
  const Tensor dt = Tensor::from(std::vector<double>{1, 1, 1e-3}, {3});
  EXPECT_EQ(peft::select_dimensions(A_log, change, dt, "a_bar", 2, 0).channels, (IndexSet{0}));
  EXPECT_EQ(peft::select_dimensions(A_log, change, dt, "a_bar", 1, 0).channels, (IndexSet{0, 2}));
  EXPECT_EQ(peft::select_dimensions(A_log, change, dt, "a_log", 2, 0).channels, (IndexSet{1}));
}

// Channel sizes ‖exp(−exp(A_log))‖ are smallest where A_log is largest; what is pruned does not train however much it
// moved.
TEST(SdtSelection, PrunedIsWhatForgetsFastest) {
  const Tensor A_log = Tensor::from<double>({0, 1, 2, 2, -1, 0, 0, 0}, {4, 2});
  const Tensor change = Tensor::from<double>({.1, .1, .9, .9, .3, .2, 0, .1}, {4, 2});
  Tensor dt = Tensor::empty({4}, Dtype::kF64);
  dt.fill(1);
  const peft::SdtShares shares{.freeze_channels = 1, .freeze_states = 0, .prune_channels = 1, .prune_states = 1};
  const peft::SdtSelection s = peft::select_dimensions(A_log, change, dt, "a_log", shares);
  EXPECT_EQ(s.pruned_channels, (IndexSet{1}));
  EXPECT_EQ(s.channels, (IndexSet{0, 2}));
  EXPECT_EQ(s.pruned_entries, (std::vector<int64_t>{1, 5}));
  EXPECT_EQ(s.entries, (std::vector<int64_t>{0, 4}));
  EXPECT_EQ(shares.channels(4), 2);
  EXPECT_EQ(shares.states(2), 1);
}

TEST(SdtSelection, CountsAndShares) {
  EXPECT_EQ(peft::frozen_count(0.99, 1536), 1521);  // 15 train, as in the authors' 130m run
  EXPECT_EQ(peft::frozen_count(0.75, 16), 12);
  EXPECT_EQ(peft::frozen_count(0.953125, 32), 30);  // 30.5: half to even
  EXPECT_EQ(peft::frozen_count(0.625, 4), 2);       // 2.5
  EXPECT_EQ(peft::frozen_count(0, 16), 0);
  EXPECT_EQ(peft::frozen_count(1, 16), 1);
  EXPECT_EQ(peft::frozen_count(27, 32), 27);
}

}  // namespace
}  // namespace molt
