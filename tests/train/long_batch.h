// Golden streams as batches, and trainables moved away from where they start, for tests of passes in spans.
#pragma once

#include <cmath>
#include <string>

#include "molt/data/batch.h"
#include "tests/cases/methods.h"

namespace molt::testing {

inline data::Batch golden_batch(const std::string& model) {
  const GoldenStream stream(io::SafetensorsFile(golden_dir(model) + "/golden.safetensors"));
  data::Batch batch{.ids = stream.ids, .labels = stream.labels, .segments = stream.segments};
  for (const int32_t label : batch.labels) batch.labelled += label >= 0;
  return batch;
}

/// One long segment of the same tokens.
inline data::Batch joined(data::Batch batch) {
  batch.segments = Segments::one(batch.rows());
  return batch;
}

inline void shake(const Tensor& value) {
  for (int64_t i = 0; i < value.numel(); ++i) {
    const double move = 0.02 * std::sin(static_cast<double>(i));
    value.dtype() == Dtype::kF64 ? value.data<double>()[i] += move : value.data<float>()[i] += static_cast<float>(move);
  }
}

/// The bundled base with LoRA on its large linears, the pairs moved away from zero.
class TunedBase {
 public:
  explicit TunedBase(const nn::Precision& precision)
      : base_(models::open_model(MOLT_SOURCE_DIR "/examples/base", precision)),
        method_(lora_on({"in_proj", "x_proj", "out_proj"})(Dtype::kF32)) {
    method_->declare(base_.model->sites(), base_.model->parameters());
    models::load_weights(base_);
    method_->attach(base_.model->sites());
    method_->bind(edits_);
    for (const nn::Trainable& t : trainables()) shake(t.var.value());
  }
  const nn::LanguageModel& model() const { return *base_.model; }
  nn::Context context() const { return {.edits = &edits_, .training = true}; }
  std::vector<nn::Trainable> trainables() const {
    std::vector<nn::Trainable> all;
    for (const auto& [site, edit] : edits_.all())
      for (const nn::Trainable& t : edit->trainables()) all.push_back(t);
    return all;
  }

  /// A segment of its vocabulary.
  static data::Batch batch(int32_t tokens) {
    data::Batch batch{.segments = Segments::one(tokens)};
    for (int32_t i = 0; i < tokens; ++i) batch.push(i * 37 % 4096, (i + 1) * 37 % 4096);
    return batch;
  }

 private:
  models::LoadedModel base_;
  std::unique_ptr<nn::Method> method_;
  nn::EditSet edits_;
};

}  // namespace molt::testing
