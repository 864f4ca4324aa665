// The whole model against transformers' numbers: logits, and gradients of every parameter.
#include "tests/cases/golden.h"

namespace molt {
namespace {

using testing::all_in;
using testing::golden_dir;
using testing::GoldenStream;
using testing::relative_error;

class MambaGolden : public ::testing::TestWithParam<const char*> {};

models::LoadedModel load(const std::string& directory, Dtype dtype, bool train_all) {
  models::LoadedModel loaded = models::open_model(directory, all_in(dtype));
  for (nn::Parameter& p : loaded.model->parameters()) p.trained = train_all;
  models::load_weights(loaded);
  return loaded;
}

Tensor logits_of(const nn::LanguageModel& model, const GoldenStream& stream) {
  const NoGrad no_grad;
  const nn::Context c{.segments = &stream.segments};
  return model.logits(c, model.hidden(c, stream.ids), stream.rows).value();
}

TEST_P(MambaGolden, LogitsInDouble) {
  const io::SafetensorsFile golden(golden_dir(GetParam()) + "/golden.safetensors");
  const auto loaded = load(golden_dir(GetParam()) + "/checkpoint", Dtype::kF64, false);
  // The stored logits were rounded to f32: 2^-24 each.
  EXPECT_LT(relative_error(logits_of(*loaded.model, GoldenStream(golden)), golden.tensor("logits")), 1e-7);
}

TEST_P(MambaGolden, LogitsInFloat) {
  const io::SafetensorsFile golden(golden_dir(GetParam()) + "/golden.safetensors");
  const auto loaded = load(golden_dir(GetParam()) + "/checkpoint", Dtype::kF32, false);
  EXPECT_LT(relative_error(logits_of(*loaded.model, GoldenStream(golden)), golden.tensor("logits")), 1e-5);
}

TEST_P(MambaGolden, GradientsOfEveryParameter) {
  const io::SafetensorsFile golden(golden_dir(GetParam()) + "/golden.safetensors");
  const GoldenStream stream(golden);
  for (const Dtype dtype : {Dtype::kF64, Dtype::kF32}) {
    for (const bool recompute : {false, true}) {
      const auto loaded = load(golden_dir(GetParam()) + "/checkpoint", dtype, true);
      const nn::Context c{.segments = &stream.segments, .training = true, .recompute = recompute};
      const nn::LossSum loss = loaded.model->loss(c, loaded.model->hidden(c, stream.ids), stream.labels);
      backward(loss.sum);
      for (const nn::Parameter& p : loaded.model->parameters()) {
        const std::string name = "grad." + p.path;
        ASSERT_TRUE(golden.has(name)) << name;
        ASSERT_TRUE(p.var.grad().defined()) << p.path;
        // f32: sums over 60 rows and three layers; transformers' own f32 gradients are off by as much.
        EXPECT_LT(relative_error(p.var.grad(), golden.tensor(name)), dtype == Dtype::kF64 ? 2e-7 : 3e-5)
            << p.path << (recompute ? " recomputed" : "");
      }
    }
  }
}

TEST_P(MambaGolden, PackedEqualsOneByOne) {
  const io::SafetensorsFile golden(golden_dir(GetParam()) + "/golden.safetensors");
  const GoldenStream stream(golden);
  const auto loaded = load(golden_dir(GetParam()) + "/checkpoint", Dtype::kF32, false);
  const Tensor packed = logits_of(*loaded.model, stream);
  for (int64_t s = 0; s < stream.segments.count(); ++s) {
    GoldenStream alone = stream;
    alone.ids.assign(stream.ids.begin() + stream.segments.begin(s), stream.ids.begin() + stream.segments.end(s));
    alone.segments = Segments::one(stream.segments.length(s));
    alone.rows.resize(alone.ids.size());
    const Tensor part = packed.row_range(stream.segments.begin(s), stream.segments.length(s));
    // Not bit-equal: a product of other height may sum in another order.
    EXPECT_LT(relative_error(logits_of(*loaded.model, alone), part), 2e-6) << "segment " << s;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, MambaGolden, ::testing::Values("tied_small", "untied_odd", "no_conv_bias"));

}  // namespace
}  // namespace molt
