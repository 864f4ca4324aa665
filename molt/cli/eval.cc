// molt eval
#include <algorithm>
#include <functional>
#include <memory>

#include "molt/app/evaluate.h"
#include "molt/base/error.h"
#include "molt/base/format.h"
#include "molt/cli/options.h"
#include "molt/cli/verbs.h"
#include "molt/train/progress.h"

namespace molt::cli {
namespace {

struct Options {
  std::vector<std::string> arguments;  ///< a recipe, then overrides; without a recipe, overrides alone
  std::vector<std::string> data;
  app::Workspace::Options model;
  std::string prompt, completion, metric;
  int64_t limit = 0, samples = 0;
  bool json = false;
};

/// The recipe file with everything said on the command line put over it, or a recipe made of that alone.
app::Recipe recipe_of(const CLI::App& verb, const Options& o) {
  const bool named = !o.arguments.empty() && o.arguments[0].find('=') == std::string::npos;
  if (!named && o.model.model.empty() && o.model.adapters.empty())
    usage_error("eval: nothing to judge; give a recipe, or --model and --data");
  if (!named && o.data.empty()) usage_error("eval: no data to judge on; give --data FILE");
  app::YamlNode root = named ? app::YamlNode::read_file(o.arguments[0])
                             : app::YamlNode::parse("{data: {}, evaluation: {}}", "command line");
  app::refuse_several_runs(root);
  for (size_t i = named; i < o.arguments.size(); ++i) root.apply(o.arguments[i]);
  const auto put = [&](const char* option, const char* key, const Json& value) {
    // JSON is YAML, and quotes what needs it.
    if (verb.get_option(option)->count() == 0) return;
    try {
      root.apply(std::string(key) + "=" + value.dump());
    } catch (const Json::type_error&) {
      usage_error(option, ": expected UTF-8 text, found other bytes");
    }
  };
  const bool by_adapter = !named && o.model.model.empty();
  put("--model", "model", o.model.model);
  if (by_adapter) root.apply("model=" + Json(app::base_of(o.model.adapters[0])).dump());
  put("--tokenizer", "tokenizer", o.model.tokenizer);
  put("--base-dtype", "base_dtype", o.model.base_dtype);
  put("--compute", "compute", o.model.compute);
  put("--threads", "threads", o.model.threads);
  put("--data", "data.test", o.data);
  put("--prompt", "data.prompt", o.prompt);
  put("--completion", "data.completion", o.completion);
  put("--metric", "evaluation.metric", o.metric);
  put("--limit", "evaluation.limit", o.limit);
  put("--samples", "evaluation.samples", o.samples);
  const size_t slash = named ? o.arguments[0].rfind('/') + 1 : 0;
  std::string name = named ? o.arguments[0].substr(slash) : "";
  return app::Recipe::from(root, name.substr(0, name.rfind('.')));
}

void put(OrderedJson& out, const app::Judgement& judgement) {
  out["scores"] = OrderedJson::object();
  for (const auto& [name, value] : judgement.scores) out["scores"][name] = value;
  out["main"] = judgement.main;
  out["samples"] = OrderedJson::array();
  for (const train::SampleRow& s : judgement.samples) {
    OrderedJson row = {{"prompt", s.prompt}, {"expected", s.expected}, {"generated", s.generated}};
    if (s.correct) row["correct"] = *s.correct;
    out["samples"].push_back(row);
  }
}

/// Several adapters are a list of what one is.
void print_json(const app::Subject& subject, const std::vector<app::Judgement>& judgements) {
  OrderedJson out = OrderedJson::object();
  out["model"] = subject.model;
  if (judgements.size() == 1) {
    out["adapter"] = subject.adapters.empty() ? OrderedJson(nullptr) : OrderedJson(subject.adapters[0]);
    put(out, judgements[0]);
  } else {
    out["adapters"] = OrderedJson::array();
    for (size_t i = 0; i < judgements.size(); ++i) {
      OrderedJson one = {{"name", app::read_adapter_spec(subject.adapters[i]).name}, {"adapter", subject.adapters[i]}};
      put(one, judgements[i]);
      out["adapters"].push_back(one);
    }
  }
  to_stdout(out.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
}

std::string padded(const std::string& text, size_t width) {
  return text + std::string(width - std::min(width, text.size()), ' ');
}

/// A row per score, a column per adapter; then what each said.
void print_table(const app::Subject& subject, const std::vector<app::Judgement>& judgements) {
  size_t first = 16, column = 9;
  for (const auto& [name, value] : judgements[0].scores) first = std::max(first, name.size() + 2);
  std::vector<std::string> names;
  for (size_t i = 0; i < judgements.size() && judgements.size() > 1; ++i) {
    names.push_back(app::read_adapter_spec(subject.adapters[i]).name);
    column = std::max(column, names[i].size());
  }
  std::string text =
      padded("judged", first) + subject.describe() + "\n" + padded("on", first) + judgements[0].describe() + "\n";
  const auto row = [&](const std::string& head, const std::function<std::string(size_t)>& cell) {
    text += padded(head, first);
    for (size_t i = 0; i < judgements.size(); ++i)
      text += i + 1 < judgements.size() ? padded(cell(i), column + 2) : cell(i);
    text += "\n";
  };
  if (!names.empty()) row("", [&](size_t i) { return names[i]; });
  for (size_t s = 0; s < judgements[0].scores.size(); ++s) {
    row(judgements[0].scores[s].first,
        [&](size_t i) { return format_significant(judgements[i].scores.at(s).second, 5); });
  }
  for (size_t s = 0; s < judgements[0].samples.size(); ++s) {
    text += str("\n", judgements[0].samples[s].prompt, "\n  expected   ", judgements[0].samples[s].expected);
    for (size_t i = 0; i < judgements.size(); ++i) {
      const train::SampleRow& said = judgements[i].samples.at(s);
      text += str("\n  ", padded(names.empty() ? "generated" : names[i], column), "  ", said.generated,
                  !said.correct   ? ""
                  : *said.correct ? "  (right)"
                                  : "  (wrong)");
    }
    text += "\n";
  }
  to_stdout(text);
}

}  // namespace

void add_eval(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("eval", "Judge what a recipe made, adapters, or a plain base");
  verb->add_option("recipe", o->arguments, "recipe file (YAML), then key=value pairs that replace the recipe's");
  add_model_options(*verb, o->model, true);
  verb->add_option("--data", o->data, "files to judge on, in place of the recipe's")->allow_extra_args(false);
  verb->add_option("--prompt", o->prompt, "template of a record's prompt (default: {prompt})");
  verb->add_option("--completion", o->completion, "template of what should be said (default: {completion})");
  verb->add_option("--metric", o->metric, "loss | exact_match | accuracy");
  verb->add_option("--limit", o->limit, "judge this many examples");
  verb->add_option("--samples", o->samples, "show this many questions with what was said");
  verb->add_flag("--json", o->json, "print JSON");
  verb->callback([o, verb] {
    app::Recipe recipe = recipe_of(*verb, *o);
    if (verb->get_option("--samples")->count() == 0) recipe.evaluation.samples = 0;
    const app::Subject subject = app::subject_of(recipe, o->model.adapters);
    train::ProgressOptions options;
    options.sink = to_stderr;
    options.tty = terminal().tty;
    options.width = terminal().width;
    train::Progress progress(std::move(options));
    bool begun = false;
    const std::vector<app::Judgement> judgements = app::evaluate(subject, recipe, [&](int64_t done, int64_t total) {
      if (!std::exchange(begun, true)) progress.begin("judge", total);
      train::ProgressStatus status;
      status.step = done;
      progress.update(status);
    });
    if (begun) progress.finish();
    o->json ? print_json(subject, judgements) : print_table(subject, judgements);
  });
}

}  // namespace molt::cli
