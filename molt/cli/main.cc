// The program: reads the command line, runs one verb, and turns failures into one line and an exit code.
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "molt/app/train_run.h"
#include "molt/base/error.h"
#include "molt/base/log.h"
#include "molt/base/near.h"
#include "molt/cli/verbs.h"
#include "molt/cli/waiting.h"

namespace molt::cli {

std::atomic<bool> interrupted{false};

namespace {

void on_interrupt(int) {
  if (interrupted.exchange(true)) std::_Exit(130);
}

/// Says what went wrong in one line, whatever names and files had in them.
int fail(int code, std::string what) {
  for (char& c : what)
    if (static_cast<unsigned char>(c) < 32 || c == 127) c = ' ';
  to_stderr("molt: " + what + "\n");
  return code;
}

std::vector<std::string> verb_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* verb : app.get_subcommands({})) names.push_back(verb->get_name());
  return names;
}

/// What CLI11 found wrong, in our words.
std::string explain(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<CLI::App*> parsed = app.get_subcommands();
  const CLI::App& at = parsed.empty() ? app : *parsed[0];
  const std::string name = parsed.empty() ? "molt" : "molt " + at.get_name(), what = error.what(),
                    see = str("(see `", name, " --help`)");
  if (dynamic_cast<const CLI::ExtrasError*>(&error)) {
    const std::vector<std::string> extras = app.remaining(true);
    if (!extras.empty() && extras[0][0] == '-') {
      std::vector<std::string> known;
      for (const CLI::Option* option : at.get_options()) {
        for (const std::string& word : option->get_lnames()) known.push_back(str("--", word));
      }
      return str("'", extras[0], "' is no option of ", name, "; did you mean ", nearest(extras[0], known, 1), "? ",
                 see);
    }
    if (!extras.empty()) return str(name, ": does not know what to do with '", extras[0], "' ", see);
  }
  if (dynamic_cast<const CLI::RequiredError*>(&error)) return str(what, " ", see);
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) && what.find("At Most") != std::string::npos)
    return str(what.substr(0, what.find(':')), ": was given more than once ", see);
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) && what.find(" required ") != std::string::npos)
    return str(what.substr(0, what.find(':')), ": expected a value after it, found none ", see);
  const std::string refused = "Could not convert: ";
  const size_t equals = what.find(" = ");
  if (what.compare(0, refused.size(), refused) == 0 && equals != std::string::npos) {
    const std::string option = what.substr(refused.size(), equals - refused.size());
    const CLI::Option* known = at.get_option_no_throw(option);
    const bool whole = known && known->get_type_name().find("INT") != std::string::npos;
    return str(option, ": expected ", whole ? "a whole number" : "a number", ", found '", what.substr(equals + 3), "'");
  }
  return str(what, " ", see);
}

/// Throws UsageError for a first argument that is neither an option nor a verb.
void check_verb(const CLI::App& app, int argc, char** argv) {
  const std::vector<std::string> names = verb_names(app);
  if (argc < 2) {
    std::string list;
    for (const std::string& name : names) list += str(list.empty() ? "" : ", ", name);
    usage_error("what is to be done? Give a verb: ", list, " (`molt --help` explains them)");
  }
  if (argv[1][0] == '-') return;
  if (std::find(names.begin(), names.end(), argv[1]) == names.end())
    usage_error("'", argv[1], "' is no verb; did you mean ", nearest(argv[1], names, 1), "? (see `molt --help`)");
}

int run(int argc, char** argv) {
  CLI::App app{"Molt fine-tunes state-space language models by training a small fraction of their parameters."};
  app.name("molt");
  app.set_version_flag("--version", [] {
    std::string text = std::string("molt ") + MOLT_VERSION;
    for (const auto& [name, value] : app::environment(0)) {
      if (name == "Instruction sets") text += "; instruction sets " + value;
      if (name == "oneDNN") text += "; oneDNN " + value;
    }
    return text + "; backends cpu";
  });
  app.require_subcommand(1);
  using AddVerb = void (*)(CLI::App&);
  constexpr AddVerb kVerbs[] = {
      add_train,      //
      add_compare,    //
      add_search,     //
      add_eval,       //
      add_generate,   //
      add_inspect,    //
      add_merge,      //
      add_convert,    //
      add_logits,     //
      add_sites,      //
      add_plan,       //
      add_doctor,     //
      add_reference,  //
      add_tokenizer,  //
  };
  for (const AddVerb add : kVerbs) add(app);
  check_verb(app, argc, argv);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    if (dynamic_cast<const CLI::RuntimeError*>(&e)) return e.get_exit_code();
    return fail(2, explain(app, e));
  }
  return 0;
}

}  // namespace

/// Files are mapped; one that somebody cuts short meanwhile has no bytes to give.
void on_bus_error(int signal, siginfo_t* info, void*) {
  if (info->si_code != BUS_ADRERR) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
    return;
  }
  static constexpr char kText[] =
      "molt: a file was cut short while it was being read, or its disk failed; restore it and start again\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kText, sizeof kText - 1);
  std::_Exit(1);
}

void watch_interrupts(bool watch) {
  // What was there before: a script's background process has Ctrl-C ignored.
  static void (*kept[])(int) = {SIG_DFL, SIG_DFL};
  const int signals[] = {SIGINT, SIGTERM};
  for (int i = 0; i < 2; ++i) {
    auto* const before = std::signal(signals[i], watch ? on_interrupt : kept[i]);
    if (before != on_interrupt) kept[i] = before;
  }
}

}  // namespace molt::cli

int main(int argc, char** argv) {
  using namespace molt;
  cli::limit_spinning(argv);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a file past the shell's limit is an error like a full disk
  struct sigaction bus {};
  bus.sa_sigaction = cli::on_bus_error;
  bus.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &bus, nullptr);
  set_log_sink([](LogLevel level, const std::string& message) {
    cli::to_stderr((level == LogLevel::kWarning ? "warning: " : "") + message + "\n");
  });
  try {
    return cli::run(argc, argv);
  } catch (const UsageError& e) {
    return cli::fail(2, e.what());
  } catch (const SystemError& e) {
    return cli::fail(1, e.what());
  } catch (const std::bad_alloc&) {
    return cli::fail(1, "out of memory; try fewer tokens_per_batch or recompute=true");
  } catch (const std::filesystem::filesystem_error& e) {
    const bool asked = e.code() == std::errc::filename_too_long;
    return cli::fail(asked ? 2 : 1, str(e.path1().string(), ": ", e.code().message()));
  } catch (const std::system_error& e) {  // of std::filesystem: permissions, mostly
    return cli::fail(1, e.what());
  } catch (const std::exception& e) {
    return cli::fail(70, std::string("internal error: ") + e.what());
  }
}
