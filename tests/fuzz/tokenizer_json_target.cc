// A tokenizer.json, and what it makes of a text.
#include "molt/text/tokenizer.h"
#include "tests/fuzz/target.h"

MOLT_FUZZ_TARGET(tokenizer_json) {
  const auto tokenizer = molt::text::Tokenizer::parse(bytes, "tokenizer.json");
  const auto ids = tokenizer.encode("The fox's 12345  jumps\n\n\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80 <|endoftext|> x_y");
  tokenizer.decode(ids);
  tokenizer.decode(ids, true);
}
