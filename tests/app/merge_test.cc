// What merging checks of its own result: a wrong weight is told from rounding that a model magnifies.
#include "molt/app/merge.h"

#include <unistd.h>

#include <filesystem>

#include "molt/app/workspace.h"
#include "molt/base/error.h"
#include "molt/io/checkpoint.h"
#include "molt/io/safetensors.h"
#include "tests/cases/golden.h"
#include "tests/cases/moved_adapter.h"

namespace molt {
namespace {

namespace fs = std::filesystem;
using app::MergeCheck;

TEST(Merge, MagnifiedRoundingIsToldFromAWrongWeight) {
  const MergeCheck good{.largest = 1e-5, .scale = 10}, bad{.largest = 0.02, .scale = 10};
  const auto outcome = [&](MergeCheck in_f32, const MergeCheck& in_f64) -> std::string {
    bool asked = false;
    try {
      app::require_same_logits(
          in_f32, [&] { return asked = true, in_f64; }, "merged");
    } catch (const SystemError& error) {
      return error.what();
    }
    return !asked ? "in f32" : in_f32.notes.size() == 1 ? in_f32.notes[0] : "in silence";
  };
  EXPECT_EQ(outcome(good, bad), "in f32");
  EXPECT_NE(outcome(bad, good).find("magnifies rounding"), std::string::npos);
  EXPECT_NE(outcome(bad, bad).find("do not use it"), std::string::npos);
}

TEST(Merge, IsComparedInF64Too) {
  const fs::path dir = fs::path(::testing::TempDir()) / ("molt_merge_" + std::to_string(::getpid()));
  fs::remove_all(dir);
  fs::create_directories(dir);
  const std::string merged = (dir / "merged").string(), wrong = (dir / "wrong").string();
  const std::string base = testing::golden_dir("tied_small") + "/checkpoint", adapter = (dir / "adapter").string();
  testing::MovedAdapter moved(models::open_model(base, testing::all_in(Dtype::kF32)),
                              "{lora: {r: 3, target_modules: [in_proj, out_proj]}}", 0.01f);
  moved.save(adapter, base);
  app::Workspace exact({.model = base, .adapter = adapter, .base_dtype = "f64", .compute = "f64"});
  const nn::EditSet& edits = exact.edits();
  app::write_merged(moved.base, moved.edits, merged, "f32", "");
  EXPECT_LT(app::check_merged(exact.model(), edits, merged).relative(), 1e-6);

  // One weight that is not the adapted one's.
  fs::copy(merged, wrong);
  io::NamedTensors tensors;
  const io::SafetensorsFile file(merged + "/model.safetensors");
  for (const std::string& name : file.names()) tensors.emplace_back(name, file.tensor(name).clone());
  for (auto& [name, tensor] : tensors) {
    if (name == "backbone.layers.0.mixer.out_proj.weight") tensor.data<float>()[0] += 0.5f;
  }
  io::write_safetensors(wrong + "/model.safetensors", tensors);
  EXPECT_GT(app::check_merged(exact.model(), edits, wrong).relative(), 1e-3);
  fs::remove_all(dir);
}

}  // namespace
}  // namespace molt
