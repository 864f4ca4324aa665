// Looking into a run directory.
#include <algorithm>
#include <filesystem>

#include "molt/app/inspect.h"
#include "molt/base/error.h"
#include "molt/base/format.h"
#include "molt/base/json.h"
#include "molt/train/metrics_log.h"
#include "molt/train/run_directory.h"

namespace molt::app {
namespace {

namespace fs = std::filesystem;

std::string text_of(const Json& json, const char* key, const std::string& otherwise = "?") {
  if (!json.is_object() || !json.contains(key)) return otherwise;
  const Json& value = json[key];
  return value.is_string() ? value.get<std::string>() : value.dump();
}

void add_recipe_facts(Inspection& found, const fs::path& path) {
  if (!fs::is_regular_file(path)) return;
  Json recipe;
  try {
    recipe = read_json_file(path.string());  // a resolved recipe is JSON, which is YAML
  } catch (const UsageError&) {
    found.notes.push_back(path.string() + ": was edited; it is no longer the recipe as resolved");
    return;
  }
  const std::string model = text_of(recipe, "model", "");
  found.facts.emplace_back("Model", model.empty() ? "from scratch" : model);
  std::string methods;
  if (recipe.contains("method") && recipe["method"].is_array()) {
    for (const Json& entry : recipe["method"]) {
      if (!entry.is_object()) continue;
      for (const auto& [name, options] : entry.items())
        methods += str(methods.empty() ? "" : "\n", name, " {", options_text(options), "}");
    }
  }
  found.facts.emplace_back("Method", methods);
  if (recipe.contains("data") && recipe["data"].is_object()) {
    std::string files;
    const Json train = recipe["data"].value("train", Json::array());
    for (const Json& file : train)
      files += (files.empty() ? "" : ", ") + (file.is_string() ? file.get<std::string>() : file.dump());
    found.facts.emplace_back("Data", files);
  }
}

void add_log_facts(Inspection& found, const fs::path& path, bool finished) {
  if (!fs::is_regular_file(path)) {
    found.facts.emplace_back("Steps", "none yet");
    return;
  }
  const train::StepRecord* last = nullptr;
  const train::EvalRecord* best = nullptr;
  const train::EvalRecord* latest = nullptr;
  const auto records = train::read_metrics(path.string());
  for (const train::MetricsRecord& r : records) {
    if (const auto* step = std::get_if<train::StepRecord>(&r)) last = step;
    const auto* eval = std::get_if<train::EvalRecord>(&r);
    if (!eval || eval->name != "validation" || eval->values.empty()) continue;
    latest = eval;
    if (!best || eval->values[0].second < best->values[0].second) best = eval;
  }
  if (!last) {
    found.facts.emplace_back("Steps", "none yet");
    return;
  }
  found.facts.emplace_back("Steps", str(last->step, finished ? "" : " so far", ", ", format_fixed(last->epoch, 2),
                                        " epochs, ", format_duration(last->seconds), " of training"));
  found.facts.emplace_back("Last loss", format_significant(last->loss, 5));
  const auto eval_text = [](const train::EvalRecord& e) {
    return str(e.values[0].first, " ", format_significant(e.values[0].second, 5), " at step ", e.step);
  };
  if (best) found.facts.emplace_back("Best validation", eval_text(*best));
  if (latest && latest->step != best->step) found.facts.emplace_back("Last validation", eval_text(*latest));
}

void add_result_facts(Inspection& found, const fs::path& directory, const Json& result) {
  for (const char* name : {"adapter", "model"}) {
    if (fs::is_directory(directory / name))
      found.facts.emplace_back("Product", str((directory / name).string(), " (", name, ", ",
                                              format_bytes(size_on_disk((directory / name).string())), ")"));
  }
  if (result.is_object() && result.value("trainable_parameters", Json()).is_number_integer() &&
      result.value("total_parameters", Json()).is_number_integer()) {
    const auto trainable = result["trainable_parameters"].get<int64_t>();
    const auto total = result["total_parameters"].get<int64_t>();
    found.facts.emplace_back(
        "Trainable",
        str(format_integer(trainable), " (",
            format_percent(static_cast<double>(trainable) / static_cast<double>(std::max<int64_t>(1, total))), ")"));
  }
  if (result.is_object() && result.value("peak_memory_bytes", Json()).is_number_integer())
    found.facts.emplace_back("Peak memory", format_bytes(result["peak_memory_bytes"].get<int64_t>()));
  if (result.is_object() && result.value("scores", Json()).is_object()) {
    for (const auto& [name, value] : result["scores"].items()) {
      if (value.is_number()) found.facts.emplace_back("Score " + name, format_significant(value.get<double>(), 5));
    }
  }
  if (fs::is_regular_file(directory / "report.html"))
    found.facts.emplace_back("Report", (directory / "report.html").string());
}

}  // namespace

Inspection inspect_run(const std::string& directory) {
  Inspection found;
  found.kind = "run";
  const fs::path path(directory);
  const Json mark = read_json_file((path / "run.json").string());
  found.facts.emplace_back(
      "Began", str(text_of(mark, "began"), " on ", text_of(mark, "host"), ", molt ", text_of(mark, "molt")));
  if (!mark.is_object() || mark.value("format", Json()) != train::kRunFormat)
    found.problems.push_back(
        str("its format is ", text_of(mark, "format"), ", this version goes on with format ", train::kRunFormat));
  Json result;
  if (fs::is_regular_file(path / "result.json")) result = read_json_file((path / "result.json").string());
  const bool finished = result.is_object() && result.value("finished", Json()) == true;
  const bool busy = train::RunDirectory::busy(directory);
  found.facts.emplace_back("State", finished ? "finished"
                                    : busy   ? "running now"
                                             : "unfinished; go on with: molt train " + directory + " --resume");
  add_recipe_facts(found, path / "recipe.yaml");
  add_log_facts(found, path / "metrics.jsonl", finished);
  add_result_facts(found, path, result);
  std::string steps;
  for (const int64_t step : train::RunDirectory::checkpoint_steps(directory))
    steps += str(steps.empty() ? "" : ", ", step);
  found.facts.emplace_back("Checkpoints", steps.empty() ? "none" : "after steps " + steps);
  found.facts.emplace_back("Size", format_bytes(size_on_disk(directory)));
  return found;
}

}  // namespace molt::app
