#include "molt/cli/options.h"

#include "molt/base/error.h"

namespace molt::cli {

void refuse_empty_adapter(CLI::Option& option) {
  option.each([](const std::string& text) {
    if (text.empty()) usage_error("--adapter: expected a directory, found none");
  });
}

void add_machine_options(CLI::App& verb, app::Workspace::Options& options) {
  verb.add_option("--tokenizer", options.tokenizer, "directory or file of a tokenizer.json (default: the model's)");
  verb.add_option("--base-dtype", options.base_dtype, "frozen weights: auto | f32 | bf16 | int8")
      ->capture_default_str();
  verb.add_option("--compute", options.compute, "operands of products: auto | f32 | bf16 | int8")
      ->capture_default_str();
  verb.add_option("--threads", options.threads, "0: every core this process may use")->capture_default_str();
}

void add_model_options(CLI::App& verb, app::Workspace::Options& options, bool several) {
  verb.add_option("--model", options.model, "directory of the base checkpoint (default: the one the adapter names)");
  if (several) {
    verb.add_option(
            "--adapter", options.adapters,
            "an adapter to use on it: DIR, a weighted sum of LoRAs (DIR:0.5+DIR:0.5), or several, NAME=DIR each")
        ->allow_extra_args(false);
  } else {
    refuse_empty_adapter(*verb.add_option("--adapter", options.adapter,
                                          "an adapter to use on it: DIR, or a weighted sum of LoRAs, DIR:0.5+DIR:0.5"));
  }
  add_machine_options(verb, options);
}

}  // namespace molt::cli
