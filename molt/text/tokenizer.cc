#include "molt/text/tokenizer.h"

#include <algorithm>

#include "molt/base/error.h"
#include "molt/text/byte_alphabet.h"
#include "molt/text/tokenizer_state.h"
#include "molt/text/unicode.h"
#include "molt/text/utf8.h"

namespace molt::text {

Tokenizer::State::State(TokenizerParts parts, PreTokenizer pre, const std::string& where)
    : nfc(parts.nfc),
      pre_tokenizer(std::move(pre)),
      bpe(parts.model, where),
      prefix(std::move(parts.prefix)),
      suffix(std::move(parts.suffix)) {
  const auto put = [&](const std::string& spelling, int32_t id) -> Token& {
    if (static_cast<size_t>(id) >= tokens.size()) tokens.resize(static_cast<size_t>(id) + 1);
    Token& token = tokens[static_cast<size_t>(id)];
    if (token.used && token.spelling != spelling)
      usage_error(where, ": id ", id, " is both \"", token.spelling, "\" and \"", spelling, "\"");
    token.spelling = spelling;
    token.used = true;
    return token;
  };
  for (const auto& [spelling, id] : parts.model.vocab)
    put(spelling, id).bytes = unspell_bytes(spelling).value_or(spelling);
  ids = std::move(parts.model.vocab);
  for (const AddedToken& added : parts.added) {
    if (added.content.empty()) continue;
    const auto [known, is_new] = ids.emplace(added.content, added.id);
    if (!is_new && known->second != added.id)
      usage_error(where, ": the added token \"", added.content, "\" has id ", added.id, ", the vocabulary gives it ",
                  known->second);
    Token& token = put(added.content, added.id);
    token.bytes = added.content;
    token.special = added.special;
    if (added.normalized) {
      normalised.add(added, nfc ? to_nfc(added.content) : added.content);
    } else {
      as_given.add(added, added.content);
    }
  }
  const auto end = ids.find(kEndOfText);
  if (end != ids.end() && tokens[static_cast<size_t>(end->second)].special) eos = end->second;
  for (const auto* around : {&prefix, &suffix})
    for (const int32_t id : *around) token(id);
}

const Tokenizer::State::Token& Tokenizer::State::token(int32_t id) const {
  if (id < 0 || static_cast<size_t>(id) >= tokens.size() || !tokens[static_cast<size_t>(id)].used)
    usage_error("token id ", id, " is not in the tokenizer's vocabulary of ", tokens.size());
  return tokens[static_cast<size_t>(id)];
}

Tokenizer Tokenizer::load(const std::string& path) {
  TokenizerSource source = read_tokenizer_source(path);
  const auto state = std::make_shared<State>(std::move(source.parts), std::move(source.pre_tokenizer), source.where);
  read_special_roles(source.directory, *state);
  return Tokenizer(state);
}

Tokenizer Tokenizer::parse(std::string_view tokenizer_json, const std::string& where) {
  TokenizerSource source = read_tokenizer_json(parse_json(tokenizer_json, where), where);
  return Tokenizer(std::make_shared<State>(std::move(source.parts), std::move(source.pre_tokenizer), where));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool allow_special) const {
  const size_t invalid = find_invalid_utf8(text);
  if (invalid != text.size()) usage_error("text to encode is not UTF-8 at byte ", invalid, " of ", text.size());
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3 + 4);
  const State& s = *state_;
  const PreTokenizer::Emit on_word = [&](std::string_view word) { s.bpe.encode(word, ids); };
  const auto on_token = [&](int32_t id) { ids.push_back(id); };
  const auto on_stretch = [&](std::string_view stretch) {
    std::string normal;
    if (s.nfc && !is_plainly_nfc(stretch)) stretch = normal = to_nfc(stretch);
    s.normalised.split(
        stretch, allow_special, [&](std::string_view words) { s.pre_tokenizer.split(words, on_word); }, on_token);
  };
  s.as_given.split(text, allow_special, on_stretch, on_token);
  return ids;
}

std::string Tokenizer::decode(const int32_t* ids, size_t count, bool skip_special) const {
  std::string bytes;
  for (size_t i = 0; i < count; ++i) {
    const State::Token& token = state_->token(ids[i]);
    if (!(skip_special && token.special)) bytes += token.bytes;
  }
  return replace_invalid_utf8(bytes);
}

std::string_view Tokenizer::token_bytes(int32_t id) const { return state_->token(id).bytes; }

std::optional<int32_t> Tokenizer::token_to_id(const std::string& token) const {
  const auto found = state_->ids.find(token);
  if (found == state_->ids.end()) return std::nullopt;
  return found->second;
}

std::optional<std::string> Tokenizer::id_to_token(int32_t id) const {
  if (id < 0 || id >= vocab_size() || !state_->tokens[static_cast<size_t>(id)].used) return std::nullopt;
  return state_->tokens[static_cast<size_t>(id)].spelling;
}

int32_t Tokenizer::vocab_size() const { return static_cast<int32_t>(state_->tokens.size()); }
bool Tokenizer::is_special(int32_t id) const { return state_->token(id).special; }
std::optional<int32_t> Tokenizer::eos_id() const { return state_->eos; }
std::optional<int32_t> Tokenizer::bos_id() const { return state_->bos; }
std::optional<int32_t> Tokenizer::pad_id() const { return state_->pad; }
const std::vector<int32_t>& Tokenizer::prefix_ids() const { return state_->prefix; }
const std::vector<int32_t>& Tokenizer::suffix_ids() const { return state_->suffix; }

std::string StreamDecoder::push(int32_t id) {
  if (skip_special_ && tokenizer_.is_special(id)) return "";
  held_ += tokenizer_.token_bytes(id);
  size_t whole = held_.size();
  for (size_t back = 1; back <= std::min<size_t>(3, held_.size()); ++back) {
    const size_t at = held_.size() - back;
    if ((static_cast<unsigned char>(held_[at]) & 0xC0) == 0x80) continue;  // inside a character: further back
    if (next_utf8(held_, at).cut_off) whole = at;
    break;
  }
  std::string out = replace_invalid_utf8(std::string_view(held_).substr(0, whole));
  held_.erase(0, whole);
  return out;
}

std::string StreamDecoder::finish() {
  std::string out = replace_invalid_utf8(held_);
  held_.clear();
  return out;
}

}  // namespace molt::text
