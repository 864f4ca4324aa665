#include "molt/app/train_run.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <optional>
#include <utility>

#include "molt/app/adapter.h"
#include "molt/app/made_with.h"
#include "molt/app/merge.h"
#include "molt/app/plan.h"
#include "molt/app/prepare.h"
#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/base/format.h"
#include "molt/base/system.h"
#include "molt/device/cpu_info.h"
#include "molt/device/memory.h"
#include "molt/io/fingerprint.h"
#include "molt/train/metrics_log.h"
#include "molt/train/progress.h"
#include "molt/train/run_directory.h"
#include "molt/train/tensorboard.h"

namespace molt::app {
namespace {

namespace fs = std::filesystem;

/// Which validation data a run has, for its checkpoints; null without any.
Json validation_identity(const data::Data& data) {
  return data.validation ? Json(std::to_string(data.validation->fingerprint())) : Json();
}

/// Throws UsageError where a checkpoint was made with other validation data. `extra`: what the checkpoint keeps.
void check_validation(const std::string& run_dir, const Json& extra, const data::Data& data) {
  if (!extra.is_object() || !extra.contains("validation") || extra["validation"] == validation_identity(data)) return;
  usage_error(run_dir,
              ": cannot be resumed: the validation data differ from those the checkpoint was made with, so scores "
              "before and after could not be compared; restore them or start a new run");
}

/// A recipe as the run in its output_dir keeps it, which may be resumed elsewhere and with more or less memory: what
/// changes no bit of the result is that which the run was begun with.
std::string as_begun(OrderedJson resolved) {
  const std::string recipe = resolved.at("output_dir").get<std::string>() + "/recipe.yaml";
  const Json was = read_json_file(recipe);
  if (!was.is_object()) return resolved.dump(2) + "\n";
  if (was.contains("output_dir")) resolved["output_dir"] = was["output_dir"];
  for (const char* key : kMemoryKeys)
    if (was.contains(key)) resolved[key] = was[key];
  return resolved.dump(2) + "\n";
}

/// The command that resumes a run, with the memory it had last.
std::string resuming(const std::string& run_dir, const Recipe& recipe, const std::string& begun) {
  std::string command = "molt train " + run_dir;
  const OrderedJson was = OrderedJson::parse(begun), is = recipe.resolved();
  for (const char* key : kMemoryKeys) {
    if (is.at(key) == was.at(key)) continue;
    const OrderedJson& value = is.at(key);
    command += str(" ", key, "=", value.is_string() ? value.get<std::string>() : value.dump());
  }
  return command + " --resume";
}

/// Throws UsageError naming the keys in which a run's recipe differs from the one it is to go on with.
void check_recipe(const std::string& run_dir, const std::string& resolved) {
  const std::string path = run_dir + "/recipe.yaml";
  const Json was = read_json_file(path).flatten(), is = parse_json(resolved, "recipe").flatten();
  std::string differing;
  for (const auto& [key, value] : is.items()) {
    if (was.contains(key) && was[key] == value) continue;
    std::string name = key.substr(1);
    std::replace(name.begin(), name.end(), '/', '.');
    differing += str(differing.empty() ? "" : "; ", name, " is ", value.dump(), ", was ",
                     was.contains(key) ? was[key].dump() : "not set");
  }
  if (differing.empty() && was.size() == is.size()) return;
  usage_error(run_dir, ": was begun with another recipe (", differing.empty() ? "more keys" : differing.substr(0, 200),
              "); resume it with its own, or choose another output_dir");
}

std::string score_text(const train::Scores& scores) {
  std::string text;
  for (const auto& [name, value] : scores) {
    char number[32];
    std::snprintf(number, sizeof number, "%.4g", value);
    text += (text.empty() ? "" : "  ") + name + " " + number;
  }
  return text;
}

}  // namespace

train::Facts environment(uint64_t seed) {
  const CpuInfo cpu = cpu_info();
  return {{"Molt", MOLT_VERSION},        {"Host", host_name()},
          {"Processor", cpu_model()},    {"Instruction sets", cpu.simd + ", " + cpu.matmul},
          {"oneDNN", cpu.onednn},        {"Threads", std::to_string(cpu.threads)},
          {"Seed", std::to_string(seed)}};
}

std::string describe_methods(const std::vector<MethodEntry>& methods) {
  std::string text;
  for (const MethodEntry& entry : methods) text += (text.empty() ? "" : " + ") + entry.name;
  return text;
}

TrainRunResult run_training(const Recipe& recipe, const TrainRunOptions& options) {
  const auto say = [&](const std::string& text) {
    if (options.sink) options.sink(text + "\n");
  };
  // Everything that can be wrong is found before the run directory is touched.
  PreparedRun prepared =
      prepare_run(recipe, {.attach = true, .tty = options.tty, .width = options.width, .sink = options.sink});
  train::TrainConfig training = recipe.training;
  if (recipe.most_memory() > 0) {
    const MemoryFit fit = fit_memory(recipe, prepared, say);
    training.recompute = fit.recompute;
    if (training.span_length > 0) training.span_memory = std::to_string(fit.span_bytes);
  }
  models::LoadedModel& base = prepared.base;
  nn::LanguageModel& model = *base.model;
  const auto& methods = prepared.methods;
  const data::Data& data = prepared.data;
  if (!prepared.attached) attach_to_weights(recipe, base, methods);
  const std::vector<nn::Method*> list = method_list(methods);
  train::check_run(list, training, *prepared.stream);
  trim_memory();  // what loading needed is not what training needs

  const std::string run_dir = recipe.output_dir;
  const bool begun = options.resume && train::RunDirectory::begun(run_dir);
  const std::string resolved = begun ? as_begun(recipe.resolved()) : recipe.resolved().dump(2) + "\n";
  if (begun) check_recipe(run_dir, resolved);
  const train::RunDirectory run =
      begun ? train::RunDirectory::open(run_dir) : train::RunDirectory::create(run_dir, resolved);

  train::Progress progress(
      {.sink = options.sink ? options.sink : [](std::string_view) {}, .tty = options.tty, .width = options.width});
  for (const auto& method : methods) {
    say(str("  ", method->name(), ": ", method->coverage(), ", ", format_count(method->trainable_count()),
            " trainable"));
  }
  const bool whole = trains_whole_model(methods, model);

  std::optional<train::MetricsLog> log;
  std::optional<train::EventWriter> events;
  auto record = [&](const train::MetricsRecord& r) {
    log->write(r);
    events->record(r, static_cast<double>(std::time(nullptr)));
  };
  train::TrainHooks hooks;
  hooks.should_stop = options.should_stop;
  hooks.on_step = [&](const train::StepRecord& r, int64_t) {
    if (r.step % recipe.training.logging_steps == 0 || r.step == 1) record(r);
    progress.update({.step = r.step,
                     .loss = r.loss,
                     .tokens_per_second = r.tokens_per_second,
                     .memory_bytes = static_cast<int64_t>(r.memory_mib * (1 << 20)),
                     .tokens = r.tokens});
  };
  hooks.on_eval = [&](const train::EvalRecord& r) {
    record(r);
    progress.message(str("step ", r.step, "  ", r.name, ": ", score_text(r.values)));
  };
  hooks.on_note = [&](const train::NoteRecord& r) {
    record(r);
    progress.message(r.text);
  };
  const Json validation = validation_identity(data);
  hooks.extra = [&] {
    log->sync();
    return Json{{"log_bytes", log->size()}, {"validation", validation}};
  };
  if (data.validation) {
    hooks.evaluate = [&](const nn::EditSet& edits) {
      const train::Scores scores =
          likelihood_scores({model, &edits}, *data.validation, recipe.data.validation_limit.value_or(0),
                            [&](int64_t at, int64_t of) { progress.aside(str("validating ", 100 * at / of, "%")); });
      progress.aside("");
      return scores;
    };
  }

  const std::string base_fingerprint = base.checkpoint ? io::base_fingerprint(*base.checkpoint) : "";
  const std::string identity = resolved + base_fingerprint;
  if (base.checkpoint) base.checkpoint->release();
  train::Trainer trainer(model, list, *prepared.stream, training, recipe.seed, &run, identity, hooks);
  const int64_t done = options.resume ? trainer.resume() : 0;
  if (options.on_steps) options.on_steps(true);
  const std::string log_path = run.metrics();
  // Records of the checkpoint's own step that came after it will be written again.
  const Json& extra = trainer.extra();
  if (done > 0) check_validation(run_dir, extra, data);
  const bool knows = extra.is_object() && extra.contains("log_bytes") && extra["log_bytes"].is_number_integer();
  const int64_t logged = knows ? extra["log_bytes"].get<int64_t>() : INT64_MAX;
  log.emplace(done > 0 ? train::MetricsLog::resume(log_path, done, logged) : train::MetricsLog::start(log_path));
  const double now = static_cast<double>(std::time(nullptr));
  if (done > 0) {
    events.emplace(run.tensorboard(), now, host_name(), done);
  } else {
    events.emplace(run.tensorboard(), now, host_name());
  }
  if (done > 0) say(str("  resumed after step ", done));

  progress.begin("train", trainer.total_steps(), done);
  TrainRunResult result;
  result.run_dir = run_dir;
  const train::TrainResult trained = trainer.run();
  progress.finish();
  result.finished = trained.finished;
  if (!trained.finished) {
    const std::string command = "go on with: " + resuming(run_dir, recipe, resolved);
    say(str("stopped after step ", trained.steps, "; ", options.go_on.empty() ? command : options.go_on));
    return result;
  }
  if (options.on_steps) options.on_steps(false);

  if (whole) {
    result.product = run_dir + "/model";
    const std::string dtype = recipe.save_dtype != "auto" ? recipe.save_dtype : recipe.scratch_given ? "f32" : "";
    write_merged(base, trainer.edits(), result.product, dtype,
                 recipe.tokenizer.empty() ? recipe.model : recipe.tokenizer);
  } else {
    result.product = run.adapter();
    for (const std::string& note : save_adapter(result.product, list, base, recipe.model)) say("  note: " + note);
  }

  train::RunReport& report = result.report;
  if (data.test || data.validation) {
    bool begun_judging = false;
    result.judgement = judge({model, &trainer.edits()}, recipe, data, prepared.tokenizer, prepared.encoder,
                             [&](int64_t at, int64_t of) {
                               if (!std::exchange(begun_judging, true)) progress.begin("judge", of);
                               progress.update({.step = at});
                             });
    progress.finish();
    record(train::EvalRecord{trained.steps, data.test ? "test" : "validation", result.judgement.scores});
  }
  log->sync();

  int64_t trainable = 0;  // as it came out: EVA may have moved ranks
  for (const auto& method : methods) trainable += method->trainable_count();
  const int64_t total_parameters = model.parameter_count() + (whole ? 0 : trainable);
  report.title = fs::path(run_dir).filename().string();
  report.created = iso_time_now();
  report.status = "finished";
  report.model = recipe.model.empty() ? "from scratch" : recipe.model;
  report.method = describe_methods(recipe.methods);
  report.task = recipe.data.train.empty() ? "" : recipe.data.train[0];
  report.trainable_parameters = trainable;
  report.total_parameters = total_parameters;
  report.base_parameters = model.parameter_count();
  report.score_name = result.judgement.main;
  report.samples = result.judgement.samples;
  report.recipe = resolved;
  report.environment = environment(recipe.seed);
  report.peak_memory_bytes = process_memory().peak;
  train::add_metrics(report, train::read_metrics(log_path));
  write_file_atomic(run.report(), train::report_page(report));
  Json summary = {{"finished", true},
                  {"recipe", recipe.resolved().dump()},
                  {"steps", trained.steps},
                  {"tokens", trained.tokens},
                  {"seconds", trained.seconds},
                  {"trainable_parameters", trainable},
                  {"total_parameters", total_parameters},
                  {"peak_memory_bytes", report.peak_memory_bytes},  // with what was logged before a resumption
                  {"best_step", trained.best_step},
                  {"best_validation_loss", trained.best_loss},
                  {"product", result.product},
                  {"made_with", made_with(data)}};
  if (!base_fingerprint.empty()) summary["made_with"]["base"] = base_fingerprint;
  summary["score_names"] = Json::array();
  for (const auto& [name, value] : result.judgement.scores) {
    summary["scores"][name] = value;
    summary["score_names"].push_back(name);
  }
  write_file_atomic(run_dir + "/result.json", summary.dump(2) + "\n");
  return result;
}

}  // namespace molt::app
