// Adapters from one program's form to another's, and checkpoints into GGUF.
#pragma once

#include <string>
#include <vector>

namespace molt::app {

struct ConvertOptions {
  std::string input;  ///< an adapter of PEFT, Molt, mlx-lm or llama.cpp, or a checkpoint's directory
  std::string to;     ///< peft | mlx | gguf
  std::string out;    ///< a new or empty directory, or for gguf a new file
  std::string model;  ///< the base; or empty: the one the adapter names
  std::string dtype;  ///< of a checkpoint's matrices in GGUF: "" (as they are), f32, f16, bf16
};

struct Converted {
  std::string from;                ///< "a PEFT adapter", …
  int64_t modules = 0;             ///< LoRA pairs, or tensors of a checkpoint
  double difference = 0;           ///< largest relative difference of a pair's effect once it was read back
  std::vector<std::string> notes;  ///< what a user must know of what was written
};

/// `molt convert`. What is written is read back and compared. Throws UsageError for an input of no known form, for
/// what the output's form cannot say (by name, with what to do), and where `out` is there already.
Converted convert(const ConvertOptions& options);

}  // namespace molt::app
