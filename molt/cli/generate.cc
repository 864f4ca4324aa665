// molt generate
#include <memory>
#include <optional>

#include "molt/app/continuation.h"
#include "molt/app/questions.h"
#include "molt/base/error.h"
#include "molt/base/escape.h"
#include "molt/base/format.h"
#include "molt/base/json.h"
#include "molt/cli/options.h"
#include "molt/cli/verbs.h"
#include "molt/text/chat_template.h"

namespace molt::cli {
namespace {

struct Options {
  app::Workspace::Options model;
  app::ContinueOptions go_on;
  std::string prompt, prompts, system, use;
  bool prompt_given = false, chat = false, json = false, quiet = false;
};

void tell_speed(const app::ContinueResult& r) {
  const double rate = static_cast<double>(r.new_tokens) / std::max(r.seconds, 1e-9);
  to_stderr(str(r.prompt_tokens, " prompt tokens, ", r.new_tokens, " new in ", format_duration(r.seconds),
                " (first after ", format_duration(r.first_seconds), "): ", format_significant(rate, 3), " tokens/s\n"));
}

/// One line per prompt, in their order, each as soon as those before it are done.
class JsonLines {
 public:
  /// `adapters`: their names, to be told too, or none.
  JsonLines(const std::vector<data::Example>& questions, const std::vector<std::string>& adapters)
      : questions_(questions), adapters_(adapters), texts_(questions.size()), done_(questions.size()) {}
  void add(size_t i, std::string_view text) { texts_[i] += text; }
  void finish(size_t i) {
    done_[i] = true;
    for (; next_ < done_.size() && done_[next_]; ++next_) {
      const data::Example& q = questions_[next_];
      OrderedJson line = OrderedJson::object();
      if (q.layout == data::Layout::kChat) {
        OrderedJson turns = OrderedJson::array();
        for (const data::Message& m : q.messages) turns.push_back({{"role", m.role}, {"content", m.content}});
        turns.back()["content"] = texts_[next_];
        line["messages"] = turns;
      } else {
        line["prompt"] = q.prompt;
        line["completion"] = texts_[next_];
      }
      if (!adapters_.empty()) line["adapter"] = adapters_[next_];
      to_stdout(line.dump() + "\n");
    }
  }

 private:
  const std::vector<data::Example>& questions_;
  const std::vector<std::string>& adapters_;
  std::vector<std::string> texts_;
  std::vector<bool> done_;
  size_t next_ = 0;
};

void end_if_interrupted(const app::ContinueResult& r) {
  if (r.stopped) throw CLI::RuntimeError(130);
}

/// The view of what --use names.
eval::ModelView chosen_view(app::Workspace& w, const Options& o) { return w.views()[w.view_named(o.use, "--use")]; }

void answer_one(app::Workspace& w, const Options& o, const data::Example& question) {
  app::ContinueOptions options = o.go_on;
  options.on_text = [](size_t, std::string_view text) { to_stdout(text); };
  const auto ids = app::question_ids(question, w.encoder());
  const auto r = app::continue_prompts(chosen_view(w, o), w.tokenizer(), {ids}, options);
  to_stdout("\n");
  if (!o.quiet) tell_speed(r);
  end_if_interrupted(r);
}

void answer_all(app::Workspace& w, const Options& o, const std::vector<data::Example>& questions) {
  const data::Encoder encoder = w.encoder();
  std::vector<std::vector<int32_t>> prompts;
  for (const data::Example& q : questions) prompts.push_back(app::question_ids(q, encoder));
  // Each question may name its adapter; what it says, or --use, or else the first.
  std::vector<std::string> names(questions.size());
  if (!o.prompts.empty()) names = app::read_question_adapters(o.prompts, questions.size());
  std::vector<size_t> which;
  for (size_t i = 0; i < names.size(); ++i) {
    const bool says = !names[i].empty();
    which.push_back(w.view_named(says ? names[i] : o.use, says ? questions[i].where : "--use"));
  }
  const std::vector<std::string> all = w.adapter_names();
  for (size_t i = 0; i < names.size(); ++i) names[i] = which[i] < all.size() ? all[which[i]] : "none";
  if (all.size() < 2) names.clear();
  JsonLines lines(questions, names);
  app::ContinueOptions options = o.go_on;
  options.on_text = [&](size_t i, std::string_view text) { lines.add(i, text); };
  options.on_done = [&](size_t i) { lines.finish(i); };
  const auto r = app::continue_prompts(w.views(), which, w.tokenizer(), prompts, options);
  if (!o.quiet) tell_speed(r);
  end_if_interrupted(r);
}

/// Turns are lines of standard input; the whole conversation is read again for each answer.
void converse(app::Workspace& w, const Options& o) {
  const data::Encoder encoder = w.encoder();
  const eval::ModelView view = chosen_view(w, o);
  std::vector<data::Message> turns;
  if (!o.system.empty()) turns.push_back({"system", o.system});
  app::ContinueOptions options = o.go_on;
  options.on_text = [](size_t, std::string_view text) { to_stdout(text); };
  LineInput input;
  for (;;) {
    if (input.tty()) to_stderr("> ");
    const std::optional<std::string> line = input.next(interrupted);
    if (!line) break;
    if (line->empty()) continue;
    turns.push_back({"user", *line});
    const data::Example question = app::chat_question(turns, "chat");
    const auto r = app::continue_prompts(view, w.tokenizer(), {app::question_ids(question, encoder)}, options);
    to_stdout("\n");
    if (!o.quiet) tell_speed(r);
    end_if_interrupted(r);
    turns.push_back({"assistant", r.continuations[0].text});
  }
  if (input.tty()) to_stderr("\n");
  if (interrupted) throw CLI::RuntimeError(130);
}

void generate(Options& o) {
  if (!o.prompt_given && o.prompts.empty() && !o.chat)
    usage_error("generate: nothing to go on from; give --prompt TEXT, --prompts FILE or --chat");
  if (!o.system.empty() && !o.chat) usage_error("--system: belongs to a chat; add --chat");
  app::plain_question(o.system, "--system");  // its text is checked there
  o.go_on.generate.validate();
  for (std::string& stop : o.go_on.stop) stop = unescape(stop);
  std::vector<data::Example> questions;
  if (!o.prompts.empty()) {
    questions = app::read_questions(o.prompts, o.prompt);
  } else if (o.prompt_given) {
    questions = {app::plain_question(unescape(o.prompt), "--prompt")};
  }
  if (o.chat) {
    for (data::Example& q : questions) {
      if (q.layout != data::Layout::kChat) q = app::chat_question({{"user", q.prompt}}, q.where);
      if (o.system.empty()) continue;
      if (q.messages[0].role == "system") usage_error(q.where, ": brings a system turn of its own; leave --system out");
      q.messages.insert(q.messages.begin(), {"system", o.system});
    }
  }
  const bool chats = o.chat || (!questions.empty() && questions[0].layout == data::Layout::kChat);
  app::Workspace workspace(o.model);
  workspace.tokenizer();  // its errors come before the weights are read
  workspace.view_named(o.use, "--use");
  if (chats) o.go_on.stop.push_back(workspace.end_of_turn());
  // A beam search shows nothing before it is over, so there is nothing to end well.
  if (o.go_on.generate.num_beams == 1) {
    watch_interrupts(true);
    o.go_on.should_stop = [] { return interrupted.load(); };
  }
  if (questions.empty()) {
    converse(workspace, o);
  } else if (o.json || !o.prompts.empty()) {
    answer_all(workspace, o, questions);
  } else {
    answer_one(workspace, o, questions[0]);
  }
}

}  // namespace

void add_generate(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("generate", "Continue a text, answer a file of prompts, or chat");
  add_model_options(*verb, o->model, true);
  verb->add_option("--use", o->use,
                   "name of the adapter to use, or none (default: the first); a record of --prompts may say its own in "
                   "a field \"adapter\"");
  const CLI::Option* prompt =
      verb->add_option("--prompt", o->prompt,
                       "text to continue, \\n in it a line end; with --prompts: template of a record's prompt, such as "
                       "\"{question}\\n\"");
  verb->add_option("--prompts", o->prompts, "file of prompts: one per line, or records (.jsonl, .json, .csv, .tsv)");
  verb->add_flag("--chat", o->chat, "prompts are a user's turns; without any, turns are read from standard input");
  verb->add_option("--system", o->system, "chat: what the system says first");
  OptionAdder adder(*verb);
  o->go_on.generate.visit(adder);
  verb->add_option("--stop", o->go_on.stop,
                   "text that ends a continuation, such as \"\\n\"; may be given several times")
      ->allow_extra_args(false);
  verb->add_flag("--json", o->json, "a line of JSON per prompt (always so with --prompts)");
  verb->add_flag("--quiet", o->quiet, "no line about speed on standard error");
  verb->callback([o, prompt] {
    o->prompt_given = prompt->count() > 0;
    generate(*o);
  });
}

}  // namespace molt::cli
