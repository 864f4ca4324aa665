// What a tokenizer is made of, as tables, for other programs' formats.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace molt::text {

struct TokenTable {
  enum class Kind { kNormal, kSpecial, kAdded, kUnused };
  struct Token {
    std::string spelling;  ///< of a normal token in the byte alphabet, of others as in text
    Kind kind = Kind::kUnused;
  };
  std::vector<Token> tokens;        ///< by id
  std::vector<std::string> merges;  ///< "left right", in the order they were learned
  bool gpt2_words = false;          ///< text is cut by GPT-2's pattern and nothing else
  bool nfc = false;                 ///< text is normalised to NFC first
  std::optional<int32_t> eos, bos, pad, unknown;
  std::vector<int32_t> prefix, suffix;  ///< what the file puts around a text
};

/// From a directory or file, as Tokenizer::load() takes them. Throws UsageError as that does.
TokenTable read_token_table(const std::string& path);

}  // namespace molt::text
