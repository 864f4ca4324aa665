// molt merge
#include <memory>

#include "molt/app/merge.h"
#include "molt/base/format.h"
#include "molt/cli/options.h"
#include "molt/cli/verbs.h"

namespace molt::cli {

void add_merge(CLI::App& app) {
  auto o = std::make_shared<app::MergeOptions>();
  CLI::App* verb = app.add_subcommand("merge", "Fold an adapter into its base: a plain checkpoint that any tool reads");
  verb->add_option("--model", o->model, "directory of the base checkpoint (default: the one the adapter names)");
  refuse_empty_adapter(
      *verb->add_option("--adapter", o->adapter, "the adapter: DIR, or a weighted sum of LoRAs, DIR:0.5+DIR:0.5")
           ->required());
  verb->add_option("--out", o->out, "what to write: a new or empty directory, or for gguf a new file")->required();
  verb->add_option("--dtype", o->dtype, "f32 | bf16, in GGUF also f16 (default: each tensor as it is in the base)");
  verb->add_option("--format", o->format, "safetensors: Hugging Face's layout | gguf: one file for llama.cpp")
      ->capture_default_str();
  verb->add_option("--threads", o->threads, "0: every core this process may use")->capture_default_str();
  verb->callback([o] {
    const app::MergeCheck check = app::merge_adapter(*o);
    for (const std::string& note : check.notes) to_stderr("note: " + note + "\n");
    if (check.rows == 0) return to_stdout(str("merged into ", o->out, "\n"));
    to_stdout(str("merged into ", o->out, "\nlogits of the merged model differ by at most ",
                  format_significant(check.largest, 3), " (", format_significant(check.relative(), 2),
                  " of the largest); the most likely token is the same in ", check.same, " of ", check.rows,
                  " places\n"));
  });
}

}  // namespace molt::cli
