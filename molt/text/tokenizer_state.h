// What a Tokenizer is made of. For the tokenizer's own files.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "molt/base/json.h"
#include "molt/text/added_tokens.h"
#include "molt/text/bpe.h"
#include "molt/text/pre_tokenizer.h"
#include "molt/text/tokenizer.h"

namespace molt::text {

/// The token that ends a text where no file names one.
inline constexpr const char* kEndOfText = "<|endoftext|>";

/// The parts of a tokenizer as a file gives them.
struct TokenizerParts {
  bool nfc = false;
  std::vector<AddedToken> added;
  BpeModel model;
  std::vector<int32_t> prefix, suffix;
};

struct Tokenizer::State {
  struct Token {
    std::string spelling;  ///< as in the file
    std::string bytes;     ///< as in text
    bool used = false;
    bool special = false;
  };

  /// Throws UsageError, beginning with `where`, for ids used twice and parts that do not fit each other.
  State(TokenizerParts parts, PreTokenizer pre_tokenizer, const std::string& where);

  const Token& token(int32_t id) const;  ///< throws UsageError for an id that is no token

  bool nfc;
  AddedTokenMatcher as_given;    ///< added tokens to find in the text as it is
  AddedTokenMatcher normalised;  ///< and in normalised text
  PreTokenizer pre_tokenizer;
  Bpe bpe;
  std::vector<Token> tokens;  ///< by id
  std::unordered_map<std::string, int32_t> ids;
  std::vector<int32_t> prefix, suffix;
  std::optional<int32_t> eos, bos, pad;
};

/// What files say, before anything is built of it.
struct TokenizerSource {
  TokenizerParts parts;
  PreTokenizer pre_tokenizer;
  std::string where;      ///< begins errors
  std::string directory;  ///< of the files, for what lies beside them; may be empty
};

/// From the value of a whole tokenizer.json.
TokenizerSource read_tokenizer_json(const Json& json, const std::string& where);

/// From a directory with vocab.json and merges.txt, GPT-2's pair.
TokenizerSource read_vocab_and_merges(const std::string& directory);

/// From a path as Tokenizer::load() takes it.
TokenizerSource read_tokenizer_source(const std::string& path);

/// Sets those of eos, bos and pad that the configuration files of a directory name.
void read_special_roles(const std::string& directory, Tokenizer::State& state);

/// An added token given as a string or as an object with "content" and flags.
AddedToken read_added_token(const Json& json, int32_t id, const std::string& where);

}  // namespace molt::text
