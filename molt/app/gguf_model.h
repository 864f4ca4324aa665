// A checkpoint, with an adapter folded in or without, as one GGUF file for llama.cpp.
#pragma once

#include <string>
#include <vector>

#include "molt/models/load.h"
#include "molt/nn/edit.h"

namespace molt::app {

struct GgufWritten {
  int64_t tensors = 0;
  std::vector<std::string> notes;
};

/// Writes `path` as a whole: sizes, tokenizer (from `tokenizer_from`, a directory or file) and every tensor with its
/// edits folded in, computed in f32. `dtype` of matrices: "" keeps each one's own, else f32, f16 or bf16; everything
/// else is f32, as llama.cpp wants it. What was written is opened again. Throws UsageError where llama.cpp has no such
/// model or tokenizer, or an edit cannot be folded in.
GgufWritten write_gguf_model(const models::LoadedModel& loaded, const nn::EditSet& edits, const std::string& path,
                             const std::string& dtype, const std::string& tokenizer_from);

}  // namespace molt::app
