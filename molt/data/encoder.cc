#include "molt/data/encoder.h"

#include <filesystem>

#include "molt/base/file.h"
#include "molt/base/rng.h"

namespace molt::data {
namespace {

/// Exercises what tokenizers differ in: spaces, digits, contractions, letters of several scripts, marks, line ends.
constexpr const char* kProbe =
    "The quick brown fox's 12345 jumps,  over\n\n\tthe LAZY dogs; we'll see... caf\xC3\xA9 \xE2\x82\xAC 3.14 "
    "\xD0\xBC\xD0\xB8\xD1\x80 \xE4\xB8\xAD\xE6\x96\x87 \xF0\x9F\x98\x80 <|endoftext|> x_y(z) == 0x1F\r\n";

}  // namespace

Encoder make_encoder(const text::Tokenizer& tokenizer, const std::string& identity) {
  Encoder e;
  e.encode = [tokenizer](std::string_view text) { return tokenizer.encode(text); };
  e.eos = tokenizer.eos_id().value_or(-1);
  e.start = tokenizer.prefix_ids();
  e.vocab_size = tokenizer.vocab_size();
  e.thread_safe = true;
  uint64_t h = mix_keys(hash_name(identity), static_cast<uint64_t>(e.vocab_size));
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id)
    if (const auto token = tokenizer.id_to_token(id)) h = mix_keys(h, hash_name(*token));
  for (const int32_t id : tokenizer.encode(kProbe)) h = mix_keys(h, static_cast<uint64_t>(id));
  e.fingerprint = std::to_string(h);
  return e;
}

Encoder load_encoder(const std::string& path) {
  const text::Tokenizer tokenizer = text::Tokenizer::load(path);
  std::string identity;
  if (!std::filesystem::is_directory(path)) {
    identity = read_file(path);
  } else {
    for (const char* name : {"tokenizer.json", "vocab.json", "merges.txt"})
      if (const auto file = std::filesystem::path(path) / name; std::filesystem::exists(file))
        identity += read_file(file.string());
  }
  return make_encoder(tokenizer, identity);
}

}  // namespace molt::data
