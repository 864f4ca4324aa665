// A whole model on a base of 8 bits: against the same model in double whose matrices hold what 8 bits stand for.
#include "molt/models/load.h"

#include "molt/tensor/matrix_view.h"
#include "tests/cases/golden.h"

namespace molt {
namespace {

using testing::golden_dir;
using testing::GoldenStream;
using testing::relative_error;

const char* const kCases[] = {"tied_small", "untied_odd", "no_conv_bias"};

models::LoadedModel load(const std::string& name, const nn::Precision& precision) {
  models::LoadedModel loaded = models::open_model(golden_dir(name) + "/checkpoint", precision);
  models::load_weights(loaded);
  return loaded;
}

/// In double; every matrix that stands in a product rounded row by row to 8 bits.
models::LoadedModel rounded(const std::string& name) {
  models::LoadedModel loaded = load(name, {Dtype::kF64, Dtype::kF64});
  for (nn::Parameter& p : loaded.model->parameters()) {
    Tensor values = loaded.checkpoint->tensor(models::stored_name(loaded, p.path)).to(Dtype::kF64).reshape(p.shape);
    if (p.product)
      PackedMatrix(matrix_view(values), {.compute = Dtype::kF64, .int8 = true}).read_rows(0, matrix_view(values));
    else if (p.lookup)
      values = values.to(Dtype::kBf16).to(Dtype::kF64);
    p.set(values, loaded.model->precision(), true);
  }
  return loaded;
}

Tensor logits_of(const nn::LanguageModel& model, const GoldenStream& stream) {
  const NoGrad no_grad;
  const nn::Context c{.segments = &stream.segments};
  return model.logits(c, model.hidden(c, stream.ids), stream.rows).value();
}

TEST(Int8Base, logits_are_those_of_the_rounded_matrices) {
  for (const char* name : kCases) {
    SCOPED_TRACE(name);
    const GoldenStream stream(io::SafetensorsFile(golden_dir(name) + "/golden.safetensors"));
    const Tensor want = logits_of(*rounded(name).model, stream);
    EXPECT_LT(relative_error(logits_of(*load(name, {Dtype::kI8, Dtype::kF64}).model, stream), want), 1e-12);
    // Operands of 16 bits on a matrix unit, of bf16 or f32 elsewhere; what lies between products is bf16 in part.
    EXPECT_LT(relative_error(logits_of(*load(name, {Dtype::kI8, Dtype::kBf16}).model, stream), want), 0.01);
    // Operands of 8 bits: half a 127th of a row's largest number each.
    EXPECT_LT(relative_error(logits_of(*load(name, {Dtype::kI8, Dtype::kI8}).model, stream), want), 0.03);
  }
}

TEST(Int8Base, gradients_of_the_input_rows_are_those_of_the_rounded_matrices) {
  for (const char* name : kCases) {
    SCOPED_TRACE(name);
    const GoldenStream stream(io::SafetensorsFile(golden_dir(name) + "/golden.safetensors"));
    // D of the lowest layer: what reaches it went back through every product.
    const auto gradient = [&](models::LoadedModel loaded) {
      nn::Parameter* lowest = nullptr;
      for (nn::Parameter& p : loaded.model->parameters())
        if (p.layer == 0 && p.path.ends_with(".D")) lowest = &p;
      lowest->trained = true;
      lowest->set(loaded.checkpoint->tensor(lowest->path), loaded.model->precision(), true);
      const nn::Context c{.segments = &stream.segments, .training = true};
      backward(loaded.model->loss(c, loaded.model->hidden(c, stream.ids), stream.labels).sum);
      return lowest->var.grad();
    };
    const Tensor want = gradient(rounded(name));
    EXPECT_LT(relative_error(gradient(load(name, {Dtype::kI8, Dtype::kF64})), want), 1e-12);
    EXPECT_LT(relative_error(gradient(load(name, {Dtype::kI8, Dtype::kBf16})), want), 0.02);
    EXPECT_LT(relative_error(gradient(load(name, {Dtype::kI8, Dtype::kI8})), want), 0.06);
  }
}

TEST(Int8Base, a_matrix_that_trains_is_not_rounded) {
  models::LoadedModel loaded = models::open_model(golden_dir("tied_small") + "/checkpoint", {Dtype::kI8, Dtype::kI8});
  for (nn::Parameter& p : loaded.model->parameters()) p.trained = p.path.ends_with("x_proj.weight");
  models::load_weights(loaded);
  for (const nn::Parameter& p : loaded.model->parameters()) {
    if (!p.product) continue;
    EXPECT_EQ(p.packed->int8(), !p.trained) << p.path;
    if (p.trained) {
      const Tensor stored = loaded.checkpoint->tensor(models::stored_name(loaded, p.path));
      EXPECT_EQ(p.var.value().values(), stored.values()) << p.path;
    }
  }
}

}  // namespace
}  // namespace molt
