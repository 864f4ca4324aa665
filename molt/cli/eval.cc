// molt eval
#include <algorithm>
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
  if (!named && o.model.model.empty()) usage_error("eval: nothing to judge; give a recipe, or --model and --data");
  if (!named && o.data.empty()) usage_error("eval: no data to judge on; give --data FILE");
  app::YamlNode root = named ? app::YamlNode::read_file(o.arguments[0])
                             : app::YamlNode::parse("{data: {}, evaluation: {}}", "command line");
  for (size_t i = named; i < o.arguments.size(); ++i) root.apply(o.arguments[i]);
  const auto put = [&](const char* option, const char* key, const Json& value) {
    // JSON is YAML, and quotes what needs it.
    if (verb.get_option(option)->count() > 0) root.apply(std::string(key) + "=" + value.dump());
  };
  put("--model", "model", o.model.model);
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

void print_json(const app::Subject& subject, const app::Judgement& judgement) {
  OrderedJson out = OrderedJson::object();
  out["model"] = subject.model;
  out["adapter"] = subject.adapter.empty() ? OrderedJson(nullptr) : OrderedJson(subject.adapter);
  out["scores"] = OrderedJson::object();
  for (const auto& [name, value] : judgement.scores) out["scores"][name] = value;
  out["main"] = judgement.main;
  out["samples"] = OrderedJson::array();
  for (const train::SampleRow& s : judgement.samples) {
    OrderedJson row = {{"prompt", s.prompt}, {"expected", s.expected}, {"generated", s.generated}};
    if (s.correct) row["correct"] = *s.correct;
    out["samples"].push_back(row);
  }
  to_stdout(out.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
}

void print_table(const app::Subject& subject, const app::Judgement& judgement) {
  size_t width = 16;
  for (const auto& [name, value] : judgement.scores) width = std::max(width, name.size() + 2);
  std::string text = "judged" + std::string(width - 6, ' ') + subject.describe() + "\n";
  for (const auto& [name, value] : judgement.scores)
    text += name + std::string(width - name.size(), ' ') + format_significant(value, 5) + "\n";
  for (const train::SampleRow& s : judgement.samples) {
    text += str("\n", s.prompt, "\n  expected   ", s.expected, "\n  generated  ", s.generated,
                !s.correct   ? ""
                : *s.correct ? "  (right)"
                             : "  (wrong)",
                "\n");
  }
  to_stdout(text);
}

}  // namespace

void add_eval(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("eval", "Judge what a recipe made, an adapter, or a plain base");
  verb->add_option("recipe", o->arguments, "recipe file (YAML), then key=value pairs that replace the recipe's");
  add_model_options(*verb, o->model);
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
    const app::Subject subject = app::subject_of(recipe, o->model.adapter);
    train::ProgressOptions options;
    options.sink = to_stderr;
    options.tty = terminal().tty;
    options.width = terminal().width;
    train::Progress progress(std::move(options));
    bool begun = false;
    const app::Judgement judgement = app::evaluate(subject, recipe, [&](int64_t done, int64_t total) {
      if (!std::exchange(begun, true)) progress.begin("judge", total);
      train::ProgressStatus status;
      status.step = done;
      progress.update(status);
    });
    if (begun) progress.finish();
    o->json ? print_json(subject, judgement) : print_table(subject, judgement);
  });
}

}  // namespace molt::cli
