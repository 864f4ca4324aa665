#include "molt/app/evaluate.h"

#include <filesystem>

#include "molt/app/workspace.h"
#include "molt/base/error.h"
#include "molt/device/cpu_info.h"

namespace molt::app {
namespace {

namespace fs = std::filesystem;

/// The recipe's data without what judging has no use for: reading and tokenising it takes time. Training data is
/// needed where validation data is split off it, or classes are those seen in it.
data::DataConfig judged_data(const Recipe& recipe) {
  data::DataConfig data = recipe.data;
  const bool classes = recipe.evaluation.metric == "accuracy" && data.labels.empty();
  const bool split = data.validation_split > 0 && data.test.empty();
  if (!classes && !split && !(data.test.empty() && data.validation.empty())) {
    data.train.clear();
    data.limit.reset();
    data.validation_split = 0;
  }
  return data;
}

}  // namespace

std::string Subject::describe() const {
  return adapter.empty() ? model + ", without an adapter" : adapter + " on " + model;
}

Subject subject_of(const Recipe& recipe, const std::string& adapter) {
  const fs::path run = recipe.output_dir;
  Subject subject{recipe.model, adapter};
  if (adapter.empty() && fs::exists(run / "model" / "config.json")) return {(run / "model").string(), ""};
  if (adapter.empty() && fs::exists(run / "adapter" / "adapter_config.json"))
    subject.adapter = (run / "adapter").string();
  if (subject.model.empty() && adapter.empty())
    usage_error(recipe.output_dir,
                ": holds no model/ yet; the recipe makes its model from scratch: run `molt train` first");
  if (subject.model.empty())
    usage_error("--adapter: needs a base, and the recipe makes its model from scratch; give --model");
  return subject;
}

Judgement evaluate(const Subject& subject, const Recipe& recipe, const JudgeProgress& progress) {
  Workspace workspace({.model = subject.model,
                       .adapter = subject.adapter,
                       .tokenizer = recipe.tokenizer,
                       .base_dtype = recipe.base_dtype,
                       .compute = recipe.compute,
                       .threads = recipe.threads});
  const text::Tokenizer& tokenizer = workspace.tokenizer();
  const data::Encoder encoder = workspace.encoder();
  data::LoadOptions options;
  options.threads = compute_threads();
  check_judge(recipe);
  const data::Data data = data::load_data(judged_data(recipe), encoder, options);
  if (!data.test && !data.validation)
    usage_error("data: neither test nor validation is given; there is nothing to judge on");
  return judge(workspace.view(), recipe, data, tokenizer, encoder, progress);
}

}  // namespace molt::app
