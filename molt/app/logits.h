// A model's logits for given tokens, in a file: what one compares with another implementation's numbers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "molt/app/workspace.h"

namespace molt::app {

struct LogitsOptions {
  Workspace::Options model;
  /// Segments of token ids: "1,2,3;4,5", or a safetensors file with `tokens` (T) and, optionally, `offsets` (S + 1).
  std::string tokens;
  /// A text in place of `tokens`: one segment, without special tokens around it.
  std::string text;
  /// The safetensors file to write: `tokens` (T) i64, `offsets` (S + 1) i64, `logits` (T, V) f32.
  std::string out;
};

struct LogitsWritten {
  int64_t segments = 0, tokens = 0, vocabulary = 0;
};

/// Runs every segment from a fresh state and writes the logits of each row. Throws UsageError for tokens that are none
/// of the model's, or an `out` that is there already.
LogitsWritten write_logits(const LogitsOptions& options);

}  // namespace molt::app
