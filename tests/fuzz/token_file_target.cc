// A file of tokens from the cache.
#include "molt/data/token_file.h"
#include "tests/fuzz/target.h"

MOLT_FUZZ_TARGET(token_file) {
  static const molt::fuzz::MemoryFile file;
  const molt::data::TokenFile tokens(file.write(bytes));
  for (int64_t i = 0; i < tokens.size(); ++i) tokens[i];
}
