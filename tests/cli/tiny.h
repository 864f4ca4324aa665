// A tiny base model and an adapter on it, made by the program itself on the bundled task.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/cli/run.h"

namespace molt::test {

/// A directory of this process, removed at its end.
class Scratch {
 public:
  Scratch() : path_(std::filesystem::temp_directory_path() / ("molt_cli_" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~Scratch() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  std::string file(const std::string& name) const { return (path_ / name).string(); }
  std::string write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << text;
    return file(name);
  }

 private:
  std::filesystem::path path_;
};

inline const Scratch& scratch() {
  static const Scratch the;
  return the;
}

inline const std::string kTinyData =
    "data: {train: examples/commands/train.jsonl, limit: 50, validation: examples/commands/validation.jsonl, "
    "validation_limit: 10}\nmax_steps: 3\ntokens_per_batch: 512\n";

/// The directory of a run that trained a model of 2 layers, D = 32, from scratch for 3 steps; its model lies in model/.
inline const std::string& tiny_base_run() {
  static const std::string run = [] {
    const std::string tokenizer = scratch().file("tokenizer"), out = scratch().file("base");
    const std::string recipe =
        scratch().write("base.yaml", "from_scratch: {d_model: 32, layers: 2}\nmethod: full\ntokenizer: " + tokenizer +
                                         "\noutput_dir: " + out + "\n" + kTinyData);
    for (const std::string& arguments :
         {"tokenizer examples/commands/train.jsonl --vocabulary 400 --out " + tokenizer, "train " + recipe}) {
      const Ran ran = run_molt(arguments);
      if (ran.code != 0) throw std::runtime_error(arguments + ": " + ran.err);
    }
    return out;
  }();
  return run;
}

inline std::string tiny_model() { return tiny_base_run() + "/model"; }

/// The directory of a run that trained LoRA and SDT on tiny_model(); its adapter lies in adapter/.
inline const std::string& tiny_adapter_run() {
  static const std::string run = [] {
    const std::string out = scratch().file("adapted");
    const std::string recipe = scratch().write(
        "adapted.yaml",
        "model: " + tiny_model() + "\noutput_dir: " + out +
            "\nmethod: [{lora: {r: 4, target_modules: [\"x_proj:B\", out_proj]}}, {sdt: {warmup_steps: 2}}]\n" +
            kTinyData);
    const Ran ran = run_molt("train " + recipe);
    if (ran.code != 0) throw std::runtime_error("train " + recipe + ": " + ran.err);
    return out;
  }();
  return run;
}

}  // namespace molt::test
