// molt convert
#include "molt/app/convert.h"

#include <memory>

#include "molt/base/format.h"
#include "molt/base/str.h"
#include "molt/cli/verbs.h"

namespace molt::cli {

void add_convert(CLI::App& app) {
  auto o = std::make_shared<app::ConvertOptions>();
  CLI::App* verb = app.add_subcommand(
      "convert", "Turn a low-rank adapter into PEFT's, mlx-lm's or llama.cpp's form, a model into GGUF");
  verb->add_option("input", o->input,
                   "an adapter (directory of Molt, PEFT or mlx-lm, or a .gguf file), or a checkpoint's directory")
      ->required();
  verb->add_option("--to", o->to, "peft | mlx | gguf")->required();
  verb->add_option("--out", o->out, "what to write: a new or empty directory, or for gguf a new file")->required();
  verb->add_option("--model", o->model, "directory of the adapter's base (default: the one the adapter names)");
  verb->add_option("--dtype", o->dtype,
                   "of a checkpoint's matrices in GGUF: f32 | f16 | bf16 (default: each as it is in the checkpoint)");
  verb->callback([o] {
    const app::Converted done = app::convert(*o);
    const bool adapter = done.from != "a checkpoint";
    std::string line =
        str(o->out, ": ", done.from, ", ", done.modules, adapter ? " pairs" : " tensors", " in ", o->to, "'s form");
    if (adapter) line += str("; read back, its effect differs by at most ", format_significant(done.difference, 2));
    to_stdout(line + "\n");
    for (const std::string& note : done.notes) to_stderr("note: " + note + "\n");
  });
}

}  // namespace molt::cli
