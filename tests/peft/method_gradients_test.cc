// Gradients of what every method trains, through the whole model and its chunked loss, against central differences in
// double precision. Of large tensors some numbers are taken, spread over them.
#include <cmath>

#include "tests/cases/methods.h"

namespace molt {
namespace {

using testing::golden_dir;
using testing::GoldenStream;
using testing::lora_on;
using testing::MethodCase;
using testing::relative_error;
using testing::sdt_with;
using testing::TunedModel;

class MethodGradients : public ::testing::TestWithParam<MethodCase> {};

/// The first two segments of a golden stream: enough to cross a boundary.
GoldenStream short_stream(const std::string& model) {
  GoldenStream stream{io::SafetensorsFile(golden_dir(model) + "/golden.safetensors")};
  const int64_t rows = stream.segments.end(1);
  stream.segments = Segments({0, stream.segments.end(0), rows});
  stream.ids.resize(static_cast<size_t>(rows));
  stream.labels.resize(static_cast<size_t>(rows));
  stream.rows.resize(static_cast<size_t>(rows));
  return stream;
}

TEST_P(MethodGradients, AgreeWithDifferences) {
  const GoldenStream stream = short_stream(GetParam().model);
  const TunedModel tuned = testing::begin(GetParam(), Dtype::kF64);
  testing::disturb(tuned, 1, 0.1);
  // Dropout draws by position, so every pass of the same step sees the same mask.
  const nn::Context c{.training = true, .seed = 11, .step = 4, .phase_step = 4, .phase_steps = 8, .first_row = 1000};
  auto loss_sum = [&] {
    const NoGrad no_grad;
    return tuned.loss(stream, c).sum.value().values()[0];
  };
  const nn::LossSum loss = tuned.loss(stream, c);
  if (loss.sum.needs_grad()) backward(loss.sum);  // else the head alone trains: its gradients are there already
  for (const nn::Trainable& t : tuned.trainables()) {
    if (GetParam().rests(t.name, 4)) {
      EXPECT_FALSE(t.var.grad().defined()) << t.name;
      continue;
    }
    Tensor value = t.var.value();
    constexpr int64_t kTaken = 24;
    const int64_t stride = value.numel() <= 2 * kTaken ? 1 : value.numel() / kTaken;
    const std::vector<double> all = t.var.grad().values();
    std::vector<double> numeric, ours;
    for (int64_t i = 0; i < value.numel(); i += stride) {
      ours.push_back(all[static_cast<size_t>(i)]);
      double& element = value.data<double>()[i];
      const double at = element, h = 1e-5;
      element = at + h;
      const double up = loss_sum();
      element = at - h;
      numeric.push_back((up - loss_sum()) / (2 * h));
      element = at;
    }
    // Rounding of a loss near 100 over 2h is 1e-9 for each number; the cubic term, 1e-10 of third derivatives, is small
    // against gradients near 1.
    const double rounding = 1e-8 * std::sqrt(static_cast<double>(ours.size()));
    double norm = 0;
    for (const double g : numeric) norm += g * g;
    EXPECT_LT(relative_error(ours, numeric) * std::sqrt(norm), 1e-6 * std::sqrt(norm) + rounding) << t.name;
  }
}

std::vector<MethodCase> cases() {
  std::vector<MethodCase> all{
      {"lora_all_linear", {lora_on({"all-linear"}, 0, 2)}},
      {"lora_slices_and_head", {lora_on({"in_proj:z", "x_proj:dt", "x_proj:C", "lm_head"}, 0, 2)}},
      {"lora_dropout", {lora_on({"in_proj", "dt_proj", "out_proj"}, 0.4, 2)}},
      {"sdt_warmup", {sdt_with("a_log")}, 0},
      {"sdt_warmup_ssm", {sdt_with("ssm")}, 0},
      {"sdt_and_lora_sparse", {sdt_with("a_log"), lora_on({"out_proj", "x_proj"}, 0, 2)}, 1},
  };
  for (const MethodCase& c : testing::method_cases()) {
    if (c.last_phase && c.model == "tied_small" && c.name.find("_full") == std::string::npos) all.push_back(c);
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Cases, MethodGradients, ::testing::ValuesIn(cases()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace molt
