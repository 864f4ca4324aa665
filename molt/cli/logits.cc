// molt logits
#include "molt/app/logits.h"

#include <memory>

#include "molt/base/str.h"
#include "molt/cli/options.h"
#include "molt/cli/verbs.h"

namespace molt::cli {

void add_logits(CLI::App& app) {
  auto o = std::make_shared<app::LogitsOptions>();
  CLI::App* verb = app.add_subcommand("logits", "Write a model's logits for given tokens, to compare with other tools");
  add_model_options(*verb, o->model);
  verb->add_option("--tokens", o->tokens,
                   "ids, segments apart by semicolons (1,2,3;4,5), or a safetensors file with tokens and offsets");
  verb->add_option("--text", o->text, "a text in place of ids");
  verb->add_option("--out", o->out, "safetensors file to write: tokens, offsets, logits")->required();
  verb->callback([o] {
    const app::LogitsWritten wrote = app::write_logits(*o);
    to_stdout(str(o->out, ": logits of ", wrote.tokens, " tokens in ", wrote.segments,
                  wrote.segments == 1 ? " segment, " : " segments, ", wrote.vocabulary, " each\n"));
  });
}

}  // namespace molt::cli
