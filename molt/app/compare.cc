#include "molt/app/compare.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <utility>

#include "molt/app/made_with.h"
#include "molt/app/outline.h"
#include "molt/app/workspace.h"
#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/base/system.h"
#include "molt/train/progress.h"

namespace molt::app {
namespace {

namespace fs = std::filesystem;

/// "LoRA r=8" -> "lora-r-8".
std::string slug(const std::string& name) {
  std::string out;
  for (const char c : name) {
    if (std::isalnum(static_cast<unsigned char>(c))) {
      out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    } else if (!out.empty() && out.back() != '-') {
      out += '-';
    }
  }
  while (!out.empty() && out.back() == '-') out.pop_back();
  return out.empty() ? "variant" : out;
}

bool says_method(const YamlNode& keys) { return keys.has("method") || keys.has("methods"); }

}  // namespace

std::vector<Variant> read_variants(const std::string& path, const std::vector<std::string>& overrides,
                                   const std::vector<std::string>& only, std::string& output_dir) {
  YamlNode root = YamlNode::read_file(path);
  for (const std::string& assignment : overrides) root.apply(assignment);
  if (!root.has("compare") || !root.child("compare").is_list())
    usage_error(path, ": compare is missing: a list of variants, each with a name and the keys it changes");
  output_dir = root.has("output_dir") ? root.child("output_dir").scalar() : "runs/" + fs::path(path).stem().string();
  std::vector<Variant> variants;
  std::vector<std::string> names;
  for (const YamlNode& entry : root.child("compare").items()) {
    if (!entry.is_map() || !entry.has("name") || !(says_method(entry) || says_method(root)))
      usage_error(entry.where(), ": expected a variant with name and method");
    if (entry.has("output_dir"))
      usage_error(entry.child("output_dir").where(),
                  ": a variant is written below the comparison's output_dir; give the key there");
    if (entry.has("methods") && entry.has("method"))
      usage_error(entry.where(), ": method and methods are both given; they mean the same, keep one");
    Variant v;
    v.name = entry.child("name").scalar();
    v.directory = output_dir + "/" + slug(v.name);
    if (std::any_of(variants.begin(), variants.end(), [&](const Variant& o) { return o.directory == v.directory; }))
      usage_error(entry.where(), ": '", v.name, "' would be written to ", v.directory,
                  ", as another variant is; give it a name that differs in letters or digits");
    YamlNode recipe = root.copy();
    recipe.erase("compare");
    if (says_method(entry)) recipe.erase("methods"), recipe.erase("method");
    for (const std::string& key : entry.keys()) {
      if (key != "name") recipe.set(key, entry.child(key));
    }
    recipe.set("output_dir", YamlNode::parse("\"" + v.directory + "\"", path));
    const std::string trained = recipe.has("methods") ? "methods" : "method";
    v.plain = recipe.child(trained).is_scalar() && recipe.child(trained).scalar() == "none";
    if (v.plain) recipe.erase(trained);
    v.recipe = Recipe::from(recipe, slug(v.name));
    names.push_back(v.name);
    variants.push_back(std::move(v));
  }
  if (variants.empty())
    usage_error(root.child("compare").where(), ": expected at least one variant with name and method, found none");
  for (const std::string& name : only) {
    if (std::find(names.begin(), names.end(), name) == names.end())
      usage_error("--only: '", name, "' is no variant of ", path, "; there is ", str(names));
  }
  if (!only.empty()) {
    variants.erase(
        std::remove_if(variants.begin(), variants.end(),
                       [&](const Variant& v) { return std::find(only.begin(), only.end(), v.name) == only.end(); }),
        variants.end());
  }
  return variants;
}

namespace {

/// Judges the untouched base and leaves a result.json like a run's.
void judge_plain(const Variant& v, const TrainRunOptions& options) {
  use_threads(v.recipe.threads);
  const auto start = std::chrono::steady_clock::now();
  Workspace workspace({.model = v.recipe.model,
                       .tokenizer = v.recipe.tokenizer,
                       .base_dtype = v.recipe.base_dtype,
                       .compute = v.recipe.compute});
  const data::Encoder encoder = workspace.encoder();
  const data::Data data = data::load_data(v.recipe.data, encoder);
  train::Progress progress(
      {.sink = options.sink ? options.sink : [](std::string_view) {}, .tty = options.tty, .width = options.width});
  bool begun = false;
  const Judgement judgement =
      judge(workspace.view(), v.recipe, data, workspace.tokenizer(), encoder, [&](int64_t at, int64_t of) {
        if (!std::exchange(begun, true)) progress.begin("judge", of);
        progress.update({.step = at});
      });
  progress.finish();
  Json summary = {{"finished", true},
                  {"recipe", v.recipe.resolved().dump()},
                  {"trainable_parameters", 0},
                  {"total_parameters", workspace.model().parameter_count()},
                  {"peak_memory_bytes", process_memory().peak},
                  {"tokens", 0},
                  {"made_with", made_with(data)},
                  {"seconds", std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()}};
  for (const auto& [name, value] : judgement.scores) summary["scores"][name] = value;
  summary["score_names"] = Json::array();
  for (const auto& [name, value] : judgement.scores) summary["score_names"].push_back(name);
  make_directories(v.directory);
  write_file_atomic(v.directory + "/result.json", summary.dump(2) + "\n");
}

/// Whether a variant's directory holds the result of this very recipe.
bool is_done(const Variant& v) {
  const std::string path = v.directory + "/result.json";
  if (!fs::exists(path)) return false;
  const Json result = read_json_file(path);
  const Json made_by = result.is_object() ? result.value("recipe", Json()) : Json();
  if (!made_by.is_string() || !same_result(made_by.get<std::string>(), v.recipe.resolved().dump()))
    usage_error(v.directory, ": holds the result of another recipe; remove it or choose another output_dir");
  return true;
}

train::MethodResult method_result(const Variant& v, const Json& result) {
  train::MethodResult out;
  out.name = v.name;
  out.detail = v.plain ? "the base as it is" : describe_methods(v.recipe.methods);
  out.trainable_parameters = result.value("trainable_parameters", int64_t{0});
  out.total_parameters = result.value("total_parameters", int64_t{0});
  out.seconds = v.plain ? 0 : result.value("seconds", 0.0);
  out.peak_memory_bytes = result.value("peak_memory_bytes", int64_t{0});
  if (out.seconds > 0) out.tokens_per_second = result.value("tokens", 0.0) / out.seconds;
  for (const Json& name : result.at("score_names")) {
    const std::string key = name.get<std::string>();
    const double value = result.at("scores").at(key).get<double>();
    if (key == "loss") {
      out.eval_loss = value;
    } else if (key != "perplexity") {
      out.scores.emplace_back(key, value);
    }
  }
  if (!v.plain) {
    train::RunReport report;
    train::add_metrics(report, train::read_metrics(v.directory + "/metrics.jsonl"));
    out.train_loss = report.train_loss;
    if (!report.eval_loss.empty()) out.eval_loss_curve = report.eval_loss[0].points;
    out.link = fs::path(v.directory).filename().string() + "/report.html";
  }
  return out;
}

train::MethodResult read_result(const Variant& v) {
  const std::string path = v.directory + "/result.json";
  try {
    return method_result(v, read_json_file(path));
  } catch (const Json::exception& e) {
    usage_error(path, ": is not what a run writes; remove ", v.directory, " to have it done again");
  }
}

/// Whether a variant begins with what another one makes: its model, or an adapter.
bool goes_on_from_others(const Variant& v, const std::string& output_dir) {
  OrderedJson recipe = v.recipe.resolved();
  recipe.erase("output_dir");
  return recipe.dump().find("\"" + output_dir + "/") != std::string::npos;
}

}  // namespace

std::optional<train::MethodResult> run_variant(const Variant& v, const TrainRunOptions& options) {
  if (is_done(v)) {
    if (options.sink) options.sink(v.name + ": finished before\n");
    return read_result(v);
  }
  if (options.should_stop && options.should_stop()) return std::nullopt;
  if (options.sink) options.sink(v.name + "\n");
  trim_memory();
  reset_process_peak();
  if (v.plain) {
    judge_plain(v, options);
  } else {
    TrainRunOptions run = options;
    run.resume = true;
    run.go_on = "the same command goes on from there";
    if (!run_training(v.recipe, run).finished) return std::nullopt;
  }
  return read_result(v);
}

CompareResult run_comparison(const std::string& recipe, const std::vector<std::string>& overrides,
                             const std::vector<std::string>& only, const TrainRunOptions& options) {
  CompareResult result;
  std::string output_dir;
  const std::vector<Variant> variants = read_variants(recipe, overrides, only, output_dir);
  // A slip in the last one would come after hours spent on the others.
  for (const Variant& v : variants)
    if (!v.plain && !is_done(v) && !goes_on_from_others(v, output_dir)) check_methods(v.recipe, v.name);
  SameMaterial same;
  for (const Variant& v : variants) {
    const std::optional<train::MethodResult> done = run_variant(v, options);
    if (!done) return result;
    same.check(v);
    result.report.methods.push_back(*done);
  }
  result.finished = true;
  train::ComparisonReport& report = result.report;
  const Recipe& first = variants.at(0).recipe;
  report.title = fs::path(recipe).stem().string();
  report.created = iso_time_now();
  report.model = first.model;
  report.task = first.data.train.empty() ? "" : first.data.train[0];
  report.score_name = first.evaluation.metric == "loss" ? "" : first.evaluation.metric;
  report.recipe = YamlNode::read_file(recipe).dump();
  report.environment = environment(first.seed);
  result.page = output_dir + "/report.html";
  write_file_atomic(result.page, train::report_page(report));
  return result;
}

}  // namespace molt::app
