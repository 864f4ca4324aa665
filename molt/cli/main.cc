// The program: reads the command line, runs one verb, and turns failures into one line and an exit code.
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "molt/app/train_run.h"
#include "molt/base/error.h"
#include "molt/base/log.h"
#include "molt/cli/verbs.h"

namespace molt::cli {

std::atomic<bool> interrupted{false};

namespace {

/// The first Ctrl-C asks for a clean end; the second ends at once.
void on_interrupt(int) {
  if (interrupted.exchange(true)) std::_Exit(130);
}

int fail(int code, const std::string& what) {
  std::fprintf(stderr, "molt: %s\n", what.c_str());
  return code;
}

int run(int argc, char** argv) {
  CLI::App app{"Molt fine-tunes state-space language models by training a small fraction of their parameters."};
  app.name("molt");
  app.set_version_flag("--version", [] {
    std::string text = std::string("molt ") + MOLT_VERSION;
    for (const auto& [name, value] : app::environment(0)) {
      if (name == "Instruction sets" || name == "oneDNN") text += ", " + name + " " + value;
    }
    return text + ", backends: cpu";
  });
  app.require_subcommand(1);
  using AddVerb = void (*)(CLI::App&);
  constexpr AddVerb kVerbs[] = {
      add_train,      //
      add_compare,    //
      add_eval,       //
      add_generate,   //
      add_inspect,    //
      add_merge,      //
      add_sites,      //
      add_doctor,     //
      add_reference,  //
      add_tokenizer,  //
  };
  for (const AddVerb add : kVerbs) add(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    if (dynamic_cast<const CLI::RuntimeError*>(&e)) return e.get_exit_code();
    return fail(2, std::string(e.what()) + " (see `molt --help`)");
  }
  return 0;
}

}  // namespace
}  // namespace molt::cli

int main(int argc, char** argv) {
  using namespace molt;
  std::signal(SIGINT, cli::on_interrupt);
  std::signal(SIGTERM, cli::on_interrupt);
  std::signal(SIGPIPE, SIG_IGN);
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
  } catch (const std::exception& e) {
    return cli::fail(70, std::string("internal error: ") + e.what());
  }
}
