// A change on one slice of a fused projection leaves the others alone: in the weights, in the files, and in what the
// model computes with.
#include "tests/cases/methods.h"

namespace molt {
namespace {

using testing::golden_dir;
using testing::GoldenStream;
using testing::lora_on;
using testing::TunedModel;

/// Remembers what passes its tap.
class Probe final : public nn::Edit {
 public:
  Var change_output(const nn::EditContext&, const Var& y) const override {
    seen = y.value().values();
    return y;
  }
  std::vector<nn::Trainable> trainables() const override { return {}; }
  mutable std::vector<double> seen;
};

/// What the first layer's taps see, by name, with the methods' edits or without.
std::map<std::string, std::vector<double>> tapped(const TunedModel& tuned, bool edited) {
  const GoldenStream stream{io::SafetensorsFile(golden_dir("tied_small") + "/golden.safetensors")};
  nn::EditSet edits;
  const auto& sites = tuned.model().sites();
  if (edited) {
    for (const auto& [id, edit] : tuned.edits().all()) edits.add(sites.all()[static_cast<size_t>(id)], edit);
  }
  std::map<std::string, std::shared_ptr<Probe>> probes;
  for (const std::string name : {"x", "z", "dt", "B", "C", "y"}) {
    probes[name] = std::make_shared<Probe>();
    edits.add(*sites.find("backbone.layers.0.mixer.tap." + name), probes[name]);
  }
  const NoGrad no_grad;
  const nn::Context c{.segments = &stream.segments, .edits = &edits};
  tuned.model().hidden(c, stream.ids);
  std::map<std::string, std::vector<double>> seen;
  for (const auto& [name, probe] : probes) seen[name] = probe->seen;
  return seen;
}

struct SliceCase {
  const char* target;
  std::vector<std::string> changed;  // taps of the first layer
};

void PrintTo(const SliceCase& c, std::ostream* out) { *out << c.target; }

class Slices : public ::testing::TestWithParam<SliceCase> {};

TEST_P(Slices, OthersSeeTheSameActivations) {
  const TunedModel tuned("tied_small", Dtype::kF64, {lora_on({GetParam().target})});
  testing::disturb(tuned, 3);
  auto with = tapped(tuned, true), without = tapped(tuned, false);
  for (const std::string tap : {"x", "z", "dt", "B", "C", "y"}) {
    const auto& changed = GetParam().changed;
    const bool expected = std::find(changed.begin(), changed.end(), tap) != changed.end();
    EXPECT_EQ(with[tap] != without[tap], expected) << tap;
  }
}

TEST_P(Slices, OtherRowsKeepTheirWeights) {
  const TunedModel tuned("tied_small", Dtype::kF32, {lora_on({GetParam().target})});
  testing::disturb(tuned, 3);
  const std::string target = GetParam().target, site_name = target.substr(0, target.find(':'));
  const nn::Site& site = *tuned.model().sites().find("backbone.layers.0.mixer." + site_name);
  const auto merged = testing::merged_weight(tuned, *site.parameter, Dtype::kF32).values();
  const auto before = tuned.checkpoint().tensor(site.parameter->path).values();
  const auto stored_b = [&] {
    for (const auto& [name, tensor] : tuned.method().state()) {
      if (name == "base_model.model." + site.path + ".lora_B.weight") return tensor;
    }
    return Tensor();
  }();
  ASSERT_EQ(stored_b.shape()[0], site.shape[0]);
  int64_t rows_changed = 0;
  for (const nn::Slice& slice : site.slices) {
    const bool ours = site_name + ":" + slice.name == target;
    for (int64_t row = slice.begin; row < slice.begin + slice.size; ++row) {
      const auto first = static_cast<std::ptrdiff_t>(row * site.shape[1]);
      const bool same =
          std::equal(merged.begin() + first, merged.begin() + first + site.shape[1], before.begin() + first);
      EXPECT_EQ(same, !ours) << "row " << row;
      const auto b = stored_b.row_range(row, 1).values();
      EXPECT_EQ(std::all_of(b.begin(), b.end(), [](double v) { return v == 0; }), !ours) << "row " << row;
      rows_changed += ours;
    }
  }
  EXPECT_GT(rows_changed, 0);
}

// x feeds everything behind the convolution; dt, B and C only the scan.
INSTANTIATE_TEST_SUITE_P(All, Slices,
                         ::testing::Values(SliceCase{"in_proj:x", {"x", "dt", "B", "C", "y"}},
                                           SliceCase{"in_proj:z", {"z", "y"}}, SliceCase{"x_proj:dt", {"dt", "y"}},
                                           SliceCase{"x_proj:B", {"B", "y"}}, SliceCase{"x_proj:C", {"C", "y"}}));

TEST(SdtSlices, OnlyChosenColumnsOfBAndCAndChosenEntriesChange) {
  TunedModel tuned("tied_small", Dtype::kF64, {testing::sdt_with("a_log")});
  testing::disturb(tuned, 5);
  tuned.begin_phase(1);
  testing::disturb(tuned, 3);
  auto with = tapped(tuned, true), without = tapped(tuned, false);
  for (const char* tap : {"x", "z", "dt"}) EXPECT_EQ(with[tap], without[tap]) << tap;
  for (const char* tap : {"B", "C", "y"}) EXPECT_NE(with[tap], without[tap]) << tap;

  const auto& sdt = static_cast<const peft::Sdt&>(tuned.method());
  for (int layer = 0; layer < 2; ++layer) {
    const std::string mixer = str("backbone.layers.", layer, ".mixer.");
    const IndexSet chosen = sdt.channels().at(static_cast<size_t>(layer));
    ASSERT_EQ(chosen.size(), 8u);  // a quarter of 32
    auto is_chosen = [&](int64_t e) { return std::find(chosen.begin(), chosen.end(), e) != chosen.end(); };
    auto difference = [&](const std::string& name) {
      const nn::Parameter* p = tuned.model().sites().find(mixer + name)->parameter;
      auto d = testing::merged_weight(tuned, *p, Dtype::kF64).values();
      const auto before = tuned.checkpoint().tensor(p->path).values();
      for (size_t i = 0; i < d.size(); ++i) d[i] -= before[i];
      return d;
    };
    const std::vector<double> a = difference("A_log"), w = difference("x_proj");
    for (int64_t e = 0; e < 32; ++e) {
      const auto row = a.begin() + e * 4;
      EXPECT_EQ(std::count_if(row, row + 4, [](double v) { return v != 0; }), is_chosen(e) ? 2 : 0) << "channel " << e;
      for (int64_t o = 0; o < 9; ++o)  // dt | B | C: 1, 4 and 4 rows
        EXPECT_EQ(w[static_cast<size_t>(o * 32 + e)] != 0, o >= 1 && is_chosen(e)) << "row " << o << ", channel " << e;
    }
  }
}

}  // namespace
}  // namespace molt
