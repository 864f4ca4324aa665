// The verbs of the command line. Each adds its options to a CLI11 app and returns what to run once they are read.
#pragma once

#include <CLI/CLI.hpp>
#include <atomic>
#include <optional>
#include <string>
#include <string_view>

namespace molt::cli {

/// Set by the first Ctrl-C (or SIGTERM) after watch_interrupts(true); the second ends the program at once. For verbs
/// that look at it and end cleanly. Without it, or after watch_interrupts(false), a signal ends the program, which
/// harms no file: all are written whole.
extern std::atomic<bool> interrupted;
void watch_interrupts(bool watch);

void add_train(CLI::App& app);
void add_compare(CLI::App& app);
void add_search(CLI::App& app);
void add_eval(CLI::App& app);
void add_generate(CLI::App& app);
void add_merge(CLI::App& app);
void add_convert(CLI::App& app);
void add_logits(CLI::App& app);
void add_sites(CLI::App& app);
void add_inspect(CLI::App& app);
void add_plan(CLI::App& app);
void add_doctor(CLI::App& app);
void add_reference(CLI::App& app);
void add_tokenizer(CLI::App& app);

/// What the terminal on standard error is like.
struct Terminal {
  bool tty = false;
  int width = 80;
};
Terminal terminal();

/// Writes to standard error at once: progress and messages.
void to_stderr(std::string_view text);

/// Writes to standard output at once. Throws SystemError where that fails; CLI::RuntimeError, to end without a word,
/// where nobody reads any more (`| head`).
void to_stdout(std::string_view text);

/// Standard input line by line.
class LineInput {
 public:
  bool tty() const;
  /// The next line without its end, or nothing at the end of the input or once `stop` is set.
  std::optional<std::string> next(const std::atomic<bool>& stop);

 private:
  std::string held_;
  bool ended_ = false;
};

}  // namespace molt::cli
