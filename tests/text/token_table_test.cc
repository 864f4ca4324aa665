// A tokenizer's tables for other formats: every id once, kinds, merges, and whether the words are GPT-2's.
#include "molt/text/token_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "molt/text/tokenizer.h"

namespace molt::text {
namespace {

TEST(TokenTable, OfTheBundledBase) {
  const std::string path = MOLT_SOURCE_DIR "/examples/base";
  const TokenTable table = read_token_table(path);
  const Tokenizer tokenizer = Tokenizer::load(path);
  ASSERT_EQ(table.tokens.size(), static_cast<size_t>(tokenizer.vocab_size()));
  for (size_t id = 0; id < table.tokens.size(); ++id)
    EXPECT_EQ(table.tokens[id].spelling, tokenizer.id_to_token(static_cast<int32_t>(id)).value()) << id;
  EXPECT_EQ(table.tokens[0].kind, TokenTable::Kind::kSpecial);
  EXPECT_EQ(table.tokens[1].kind, TokenTable::Kind::kNormal);
  EXPECT_EQ(table.merges.size(), 3839u);
  EXPECT_EQ(std::count(table.merges[0].begin(), table.merges[0].end(), ' '), 1);
  EXPECT_TRUE(table.gpt2_words);
  EXPECT_TRUE(table.nfc);
  EXPECT_EQ(table.eos, 0);
}

TEST(TokenTable, OfGptNeoX) {
  const char* const shared = std::getenv("MOLT_SHARED");
  const std::string path =
      (shared ? shared : MOLT_SOURCE_DIR "/../shared") + std::string("/data/tokenizers/gpt-neox-20b");
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there";
  const TokenTable table = read_token_table(path);
  EXPECT_TRUE(table.gpt2_words);
  int added = 0;
  for (const auto& t : table.tokens) added += t.kind == TokenTable::Kind::kAdded;
  EXPECT_GT(added, 10);  // its runs of spaces
  EXPECT_EQ(table.tokens.at(0).spelling, "<|endoftext|>");
}

}  // namespace
}  // namespace molt::text
