// molt logits: what it writes are transformers' numbers, from ids as text and from a file; odd ids are refused.
#include <filesystem>

#include "tests/cases/golden.h"
#include "tests/cli/run.h"

namespace molt::test {
namespace {

namespace fs = std::filesystem;

class Logits : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = fs::temp_directory_path() / ("molt_logits_" + std::to_string(::getpid()));
    fs::create_directories(dir_);
  }
  void TearDown() override { fs::remove_all(dir_); }
  Ran run(const std::string& tokens, const std::string& more = "") {
    return run_molt("logits --model '" + golden_ + "/checkpoint' --compute f32 --base-dtype f32 --tokens '" + tokens +
                    "' --out '" + (dir_ / "out.safetensors").string() + "' " + more);
  }
  fs::path dir_;
  std::string golden_ = testing::golden_dir("tied_small");
};

TEST_F(Logits, AreTheReferences) {
  const io::SafetensorsFile golden(golden_ + "/golden.safetensors");
  const testing::GoldenStream stream(golden);
  std::string list;
  for (size_t t = 0, s = 1; t < stream.ids.size(); ++t) {
    list += std::to_string(stream.ids[t]);
    if (static_cast<int64_t>(t) + 1 == stream.segments.tokens()) break;
    const bool last = static_cast<int64_t>(t) + 1 == stream.segments.offsets()[s];
    s += last;
    list += last ? ';' : ',';
  }
  const Ran ran = run(list);
  ASSERT_EQ(ran.code, 0) << ran.err;
  const io::SafetensorsFile written((dir_ / "out.safetensors").string());
  const Tensor all = written.tensor("logits"), expected = golden.tensor("logits");
  // The golden file holds chosen rows.
  Tensor chosen = Tensor::empty(expected.shape(), Dtype::kF32);
  for (size_t r = 0; r < stream.rows.size(); ++r)
    std::copy_n(all.data<float>() + stream.rows[r] * all.dim(1), all.dim(1),
                chosen.data<float>() + static_cast<int64_t>(r) * all.dim(1));
  EXPECT_LT(testing::relative_error(chosen, expected), 1e-5);

  // The file it wrote says the same tokens again.
  fs::rename(dir_ / "out.safetensors", dir_ / "first.safetensors");
  ASSERT_EQ(run((dir_ / "first.safetensors").string()).code, 0);
  const io::SafetensorsFile again((dir_ / "out.safetensors").string());
  EXPECT_EQ(again.tensor("logits").values(), all.values());
}

TEST_F(Logits, RefusesWhatIsNoToken) {
  for (const char* tokens : {"1,2,x", "1,,2", "1,2;", "1,99999", "-1", "1.5"}) {
    const Ran ran = run(tokens);
    EXPECT_EQ(ran.code, 2) << tokens;
    EXPECT_EQ(line_count(ran.err), 1) << ran.err;
    EXPECT_TRUE(has(ran.err, "--tokens")) << tokens;
    EXPECT_FALSE(fs::exists(dir_ / "out.safetensors"));
  }
  EXPECT_TRUE(has(run("1,2", "--text hello").err, "either --tokens or --text"));
}

}  // namespace
}  // namespace molt::test
