// Options that several verbs share, and command line options made from config structs.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>

#include "molt/app/workspace.h"

namespace molt::cli {

/// A visitor that makes an option --like-this of every key of a config struct. The struct must outlive the parsing.
class OptionAdder {
 public:
  explicit OptionAdder(CLI::App& verb) : verb_(verb) {}
  template <class T>
  void field(std::string name, T& value, const char* help) {
    std::replace(name.begin(), name.end(), '_', '-');
    verb_.add_option("--" + name, value, help)->capture_default_str();
  }

 private:
  CLI::App& verb_;
};

/// --tokenizer, --base-dtype, --compute and --threads.
void add_machine_options(CLI::App& verb, app::Workspace::Options& options);

/// An empty --adapter is a script's unset variable; without it the base alone would be used, silently.
void refuse_empty_adapter(CLI::Option& option);

/// --model and --adapter besides; with `several`, --adapter NAME=DIR may be given several times.
void add_model_options(CLI::App& verb, app::Workspace::Options& options, bool several = false);

}  // namespace molt::cli
