#include "molt/text/token_table.h"

#include "molt/base/str.h"
#include "molt/text/tokenizer_state.h"

namespace molt::text {

TokenTable read_token_table(const std::string& path) {
  const TokenizerSource source = read_tokenizer_source(path);
  const TokenizerParts& parts = source.parts;
  TokenTable table;
  const Tokenizer tokenizer = Tokenizer::load(path);
  table.tokens.resize(static_cast<size_t>(tokenizer.vocab_size()));
  for (const auto& [spelling, id] : parts.model.vocab)
    table.tokens[static_cast<size_t>(id)] = {spelling, TokenTable::Kind::kNormal};
  for (const AddedToken& added : parts.added) {
    if (added.content.empty()) continue;
    table.tokens[static_cast<size_t>(added.id)] = {
        added.content, added.special ? TokenTable::Kind::kSpecial : TokenTable::Kind::kAdded};
  }
  for (const auto& [left, right] : parts.model.merges) table.merges.push_back(str(left, " ", right));
  table.gpt2_words = source.pre_tokenizer.is_gpt2();
  table.nfc = parts.nfc;
  table.eos = tokenizer.eos_id(), table.bos = tokenizer.bos_id(), table.pad = tokenizer.pad_id();
  if (parts.model.unknown) table.unknown = tokenizer.token_to_id(*parts.model.unknown);
  table.prefix = parts.prefix, table.suffix = parts.suffix;
  return table;
}

}  // namespace molt::text
