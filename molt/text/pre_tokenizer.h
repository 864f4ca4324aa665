// Cuts text into the words that BPE works within, as the `pre_tokenizer` of a tokenizer.json says: ByteLevel, alone or
// in a sequence with Split, Digits and Punctuation. Other kinds are refused by name.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "molt/base/json.h"
#include "molt/text/regex.h"

namespace molt::text {

/// What happens to what a Split pattern matches.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

/// A chain of stages, each cutting the pieces of the one before. Const use from many threads is safe.
class PreTokenizer {
 public:
  using Emit = std::function<void(std::string_view)>;

  /// Reads the value of `pre_tokenizer`. Throws UsageError, beginning with `where`.
  static PreTokenizer from_json(const Json& json, const std::string& where);

  /// GPT-2's: contractions, letters, numbers, other marks, each with a space before it, and runs of spaces.
  static PreTokenizer gpt2(bool add_prefix_space);

  /// Whether it is gpt2(false).
  bool is_gpt2() const;

  /// Calls `emit` with each word, from left to right, as raw bytes that live until emit returns. `text` is valid UTF-8.
  void split(std::string_view text, const Emit& emit) const;

 private:
  struct Stage {
    std::shared_ptr<const Regex> regex;  ///< null: the stage does not cut
    SplitBehavior behavior = SplitBehavior::kIsolated;
    bool invert = false;            ///< what the pattern does not match counts as matched
    bool byte_level = false;        ///< the stage that spells bytes
    bool add_prefix_space = false;  ///< of a byte_level stage
    bool on_spelling = false;       ///< stands after byte_level: its pattern sees the spelling of the bytes
  };

  PreTokenizer() = default;
  void add(const Json& json, const std::string& where);
  void add_byte_level(bool add_prefix_space, bool use_regex);
  void add_split(const std::string& pattern, SplitBehavior behavior, bool invert, const std::string& where);
  void run(size_t stage, std::string_view piece, std::vector<Regex::Scratch>& scratch, const Emit& emit) const;
  void run_on_spelling(size_t stage, std::string_view piece, std::vector<Regex::Scratch>& scratch,
                       const Emit& emit) const;

  std::vector<Stage> stages_;
  bool byte_level_ = false;
};

}  // namespace molt::text
