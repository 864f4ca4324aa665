// Text to token ids and back, for byte-level BPE tokenizers in the form of Hugging Face `tokenizers`: tokenizer.json,
// or GPT-2's older pair vocab.json and merges.txt. Ids are equal to that library's; so are decoded texts, but that an
// added token is decoded as it is written also where its characters belong to the byte alphabet.
//
// Not here: truncation and padding (also where the file asks for them), and the tokens that a post-processor puts
// around a text, which are only reported (prefix_ids, suffix_ids). Other kinds of tokenizer (SentencePiece, WordPiece,
// Unigram) are refused by name.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace molt::text {

/// A loaded tokenizer. Immutable: copies share one state, and any number of threads may use it at once.
class Tokenizer {
 public:
  /// Loads a tokenizer.json, or a directory that holds one (or vocab.json and merges.txt). Which tokens end, begin and
  /// pad a text is taken from tokenizer_config.json, special_tokens_map.json or config.json beside it, in this order;
  /// where none names an end, "<|endoftext|>" is one if it is a special token. Throws UsageError for anything
  /// malformed.
  static Tokenizer load(const std::string& path);

  /// From the text of a tokenizer.json. `where` names it in errors.
  static Tokenizer parse(std::string_view tokenizer_json, const std::string& where);

  /// The ids of a text. Special tokens written in the text become their ids unless `allow_special` is false; then they
  /// are encoded as ordinary text. Throws UsageError for text that is not UTF-8.
  std::vector<int32_t> encode(std::string_view text, bool allow_special = true) const;

  /// The text of ids, with U+FFFD for bytes that are not UTF-8. Throws UsageError for an id that is no token.
  std::string decode(const int32_t* ids, size_t count, bool skip_special = false) const;
  std::string decode(const std::vector<int32_t>& ids, bool skip_special = false) const {
    return decode(ids.data(), ids.size(), skip_special);
  }

  /// The bytes a token stands for. Throws UsageError for an id that is no token.
  std::string_view token_bytes(int32_t id) const;

  /// The id of a token as the file spells it ("\u0120the"), added tokens first.
  std::optional<int32_t> token_to_id(const std::string& token) const;
  /// The file's spelling; nothing for an id that is no token.
  std::optional<std::string> id_to_token(int32_t id) const;

  /// One more than the largest id: the least number of rows that an embedding needs.
  int32_t vocab_size() const;
  bool is_special(int32_t id) const;

  std::optional<int32_t> eos_id() const;
  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> pad_id() const;
  /// What the file's post-processor puts before and after a single text; encode() does not.
  const std::vector<int32_t>& prefix_ids() const;
  const std::vector<int32_t>& suffix_ids() const;

  struct State;  ///< private to the tokenizer's own files
  explicit Tokenizer(std::shared_ptr<const State> state) : state_(std::move(state)) {}

 private:
  std::shared_ptr<const State> state_;
};

/// Decodes a growing sequence: push() returns what is certain, holding back bytes that may be part of a character.
/// All that it returns, with finish(), equals decode() of the whole.
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer, bool skip_special = false)
      : tokenizer_(std::move(tokenizer)), skip_special_(skip_special) {}

  std::string push(int32_t id);
  /// What was held back, with U+FFFD for an incomplete character; the decoder is then as new.
  std::string finish();

 private:
  Tokenizer tokenizer_;
  bool skip_special_;
  std::string held_;
};

}  // namespace molt::text
