// Learns a byte-level BPE tokenizer from text files: all 256 bytes, then the most frequent pair of neighbours within
// words, again and again, until the vocabulary is full. The same files and settings give the same tokenizer, and the
// merges are those that Hugging Face `tokenizers` learns from the same text (equal counts: the pair of smaller ids
// first).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "molt/base/json.h"

namespace molt::text {

struct BpeTrainerConfig {
  int32_t vocab_size = 4096;  ///< bytes, merges and special tokens together
  int64_t min_frequency = 2;  ///< a pair that is rarer is not merged
  /// They have the first ids, and text is cut where they stand in it: nothing is learned across or from them.
  std::vector<std::string> special_tokens = {"<|endoftext|>"};
  std::string eos_token = "";     ///< one of the special tokens; empty: the first, if there is any
  bool nfc = true;                ///< normalise text to form C, here and when encoding
  bool add_prefix_space = false;  ///< a text begins as if a space stood before it
};

/// What was learned. Tokens are spelled in the byte alphabet, special tokens as they are.
struct TrainedBpe {
  BpeTrainerConfig config;
  std::vector<std::string> tokens;  ///< by id; fewer than asked for where the text has no more pairs
  std::vector<std::pair<std::string, std::string>> merges;

  /// The tokenizer.json.
  OrderedJson to_json() const;
  /// Writes tokenizer.json and tokenizer_config.json into a directory, which is made where it is missing.
  void write(const std::string& directory) const;
};

/// Trains on the files together. Throws UsageError for settings that cannot be met and files that are missing or not
/// UTF-8. Files are read piece by piece; memory grows with the number of different words.
TrainedBpe train_bpe(const std::vector<std::string>& paths, const BpeTrainerConfig& config);

}  // namespace molt::text
