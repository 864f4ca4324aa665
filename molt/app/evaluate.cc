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
  if (!data.test.empty()) {
    // What is judged may be of another kind than what the recipe trains on: --data stands in its place.
    data.validation.clear();
    data::DataConfig judged = data;
    judged.train.clear();
    if (data::is_plain_text(judged)) {
      data.max_length = 0;
      data.prompt = data.completion = data.prefix = data.separator = data.each = "";
      data.labels.clear(), data.map_completion.clear();
    }
  }
  if (!classes && !split && !(data.test.empty() && data.validation.empty())) {
    data.train.clear();
    data.limit.reset();
    data.validation_split = 0;
  }
  return data;
}

}  // namespace

std::string Subject::describe() const {
  if (adapters.empty()) return model + ", without an adapter";
  std::string all;
  for (const std::string& adapter : adapters) all += (all.empty() ? "" : ", ") + adapter;
  return all + " on " + model;
}

Subject subject_of(const Recipe& recipe, const std::vector<std::string>& adapters) {
  const fs::path run = recipe.output_dir;
  Subject subject{recipe.model, adapters};
  if (adapters.empty() && fs::exists(run / "model" / "config.json")) return {(run / "model").string()};
  if (adapters.empty() && fs::exists(run / "adapter" / "adapter_config.json"))
    subject.adapters = {(run / "adapter").string()};
  if (subject.model.empty() && adapters.empty())
    usage_error(recipe.output_dir,
                ": holds no model/ yet; the recipe makes its model from scratch: run `molt train` first");
  if (subject.model.empty())
    usage_error("--adapter: needs a base, and the recipe makes its model from scratch; give --model");
  return subject;
}

std::vector<Judgement> evaluate(const Subject& subject, const Recipe& recipe, const JudgeProgress& progress) {
  Workspace workspace({.model = subject.model,
                       .adapters = subject.adapters,
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
  std::vector<eval::ModelView> views = workspace.views();
  if (views.size() > 1) views.pop_back();  // the base alone
  std::vector<Judgement> judgements;
  for (size_t i = 0; i < views.size(); ++i) {
    const auto part = [&](int64_t done, int64_t total) {
      const auto before = static_cast<int64_t>(i), all = static_cast<int64_t>(views.size());
      if (progress) progress(before * total + done, all * total);
    };
    judgements.push_back(judge(views[i], recipe, data, tokenizer, encoder, part));
  }
  return judgements;
}

}  // namespace molt::app
