// Counts the words of text files, as a tokenizer would cut them, without holding the files in memory.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace molt::text {

struct WordCountConfig {
  std::vector<std::string> special_tokens;  ///< text is cut at them; they are not counted
  bool nfc = true;
  bool add_prefix_space = false;
};

/// How often each word (raw bytes, cut by GPT-2's pattern) stands in the files. Throws UsageError for a file that is
/// missing or not UTF-8.
std::unordered_map<std::string, int64_t> count_words(const std::vector<std::string>& paths,
                                                     const WordCountConfig& config);

}  // namespace molt::text
