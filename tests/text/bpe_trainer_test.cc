// The trainer against a slow one that counts everything anew before each merge, and what it does with its settings.
#include "molt/text/bpe_trainer.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/base/rng.h"
#include "molt/text/byte_alphabet.h"
#include "molt/text/tokenizer.h"
#include "molt/text/word_counts.h"
#include "tests/text/shared.h"

namespace molt::text {
namespace {

using Merges = std::vector<std::pair<std::string, std::string>>;

/// Merges by the definition: count all pairs of neighbours in all words, merge the most frequent (of equals the one
/// with the smallest ids), start over. Every merge must make a new token, which holds for the texts below.
Merges slow_merges(const std::unordered_map<std::string, int64_t>& words, const TrainedBpe& fast, size_t count) {
  std::map<std::string, int> ids;
  for (size_t i = 0; i < fast.tokens.size(); ++i) ids[fast.tokens[i]] = static_cast<int>(i);
  std::vector<std::pair<std::vector<std::string>, int64_t>> split;
  for (const auto& [word, n] : words) {
    split.push_back({{}, n});
    for (const char c : word) split.back().first.push_back(spell_bytes({&c, 1}));
  }
  Merges merges;
  while (merges.size() < count) {
    std::map<std::pair<int, int>, int64_t> counts;
    for (const auto& [s, n] : split)
      for (size_t i = 0; i + 1 < s.size(); ++i) counts[{ids.at(s[i]), ids.at(s[i + 1])}] += n;
    std::pair<int, int> best;
    int64_t most = 1;
    for (const auto& [pair, n] : counts)
      if (n > most) best = pair, most = n;
    if (most < 2) break;
    const std::string left = fast.tokens[static_cast<size_t>(best.first)],
                      right = fast.tokens[static_cast<size_t>(best.second)];
    merges.emplace_back(left, right);
    for (auto& [s, n] : split)
      for (size_t i = 0; i + 1 < s.size(); ++i)
        if (s[i] == left && s[i + 1] == right) s[i] += right, s.erase(s.begin() + static_cast<ptrdiff_t>(i) + 1);
  }
  return merges;
}

TEST(BpeTrainer, EqualsTheSlowDefinition) {
  const TempDir dir;
  const Rng rng(3);
  uint64_t draw = 0;
  for (int round = 0; round < 5; ++round) {
    std::string text;
    for (int i = 0; i < 400; ++i) {
      for (uint32_t n = 1 + rng.below(draw++, 9); n-- > 0;) text += static_cast<char>('a' + rng.below(draw++, 4));
      text += ' ';
    }
    write_file_atomic(dir / "text", text);
    BpeTrainerConfig config;
    config.vocab_size = 257 + 60;
    const TrainedBpe fast = train_bpe({dir / "text"}, config);
    EXPECT_EQ(fast.merges.size(), 60u);
    EXPECT_EQ(fast.merges, slow_merges(count_words({dir / "text"}, {}), fast, 60));
  }
}

TEST(BpeTrainer, StopsWherePairsAreRare) {
  const TempDir dir;
  write_file_atomic(dir / "text", "abab abab xy");
  BpeTrainerConfig config;
  const TrainedBpe t = train_bpe({dir / "text"}, config);
  // ab occurs 4 times; then abab and its space twice; xy once.
  EXPECT_EQ(t.merges, (Merges{{"a", "b"}, {"ab", "ab"}}));
  EXPECT_EQ(t.tokens.size(), 259u);
  config.min_frequency = 5;
  EXPECT_TRUE(train_bpe({dir / "text"}, config).merges.empty());
}

TEST(BpeTrainer, SpecialTokensCutTheText) {
  const TempDir dir;
  write_file_atomic(dir / "text", "ab<|endoftext|>cd<|endoftext|>ab<|endoftext|>");
  const TrainedBpe t = train_bpe({dir / "text"}, {});
  EXPECT_EQ(t.merges, (Merges{{"a", "b"}}));
  EXPECT_EQ(t.tokens[0], "<|endoftext|>");
}

TEST(BpeTrainer, WritesATokenizerThatLoads) {
  const TempDir dir;
  const std::string text = "the cat sat on the mat\nthe dog sat on the cat\n";
  write_file_atomic(dir / "text", text);
  BpeTrainerConfig config;
  config.special_tokens = {"<|endoftext|>", "<|pad|>"};
  config.eos_token = "<|pad|>";
  const TrainedBpe trained = train_bpe({dir / "text"}, config);
  trained.write(dir / "out");
  const Tokenizer t = Tokenizer::load(dir / "out");
  EXPECT_EQ(t.vocab_size(), static_cast<int32_t>(trained.tokens.size()));
  for (size_t id = 0; id < trained.tokens.size(); ++id)
    EXPECT_EQ(t.id_to_token(static_cast<int32_t>(id)), trained.tokens[id]);
  EXPECT_EQ(t.eos_id(), 1);
  EXPECT_EQ(t.decode(t.encode(text)), text);
  EXPECT_LT(t.encode(text).size(), text.size() / 2);
  trained.write(dir / "again");
  train_bpe({dir / "text"}, config).write(dir / "anew");
  EXPECT_EQ(read_file(dir / "anew/tokenizer.json"), read_file(dir / "again/tokenizer.json"));
}

TEST(BpeTrainer, FilesLargerThanAPieceAreCutBetweenWords) {
  const TempDir dir;
  std::string text;  // blank lines and indents, so that white space runs over the places where a reader might cut
  const std::string line = "one two  three\u00e9\n\n   four\n";
  const int64_t lines = 1'600'000;  // 43 MB: more than two pieces of 16 MiB
  for (int64_t i = 0; i < lines; ++i) text += line;
  write_file_atomic(dir / "text", text);
  const auto counts = count_words({dir / "text"}, {});
  const std::unordered_map<std::string, int64_t> expected = {
      {"one", lines},    {" two", lines},  {" ", lines}, {" three\u00e9", lines},
      {"\n\n  ", lines}, {" four", lines}, {"\n", lines}};
  EXPECT_EQ(counts, expected);
}

TEST(BpeTrainer, RefusesWhatCannotBe) {
  const TempDir dir;
  write_file_atomic(dir / "text", "ab");
  write_file_atomic(dir / "latin1", "caf\xE9 ole");
  const auto refused = [&](const std::function<void(BpeTrainerConfig&)>& change, const std::string& file = "text") {
    BpeTrainerConfig config;
    change(config);
    EXPECT_THROW(train_bpe({dir / file}, config), UsageError);
  };
  refused([](auto& c) { c.vocab_size = 256; });
  refused([](auto& c) { c.vocab_size = 1 << 30; });
  refused([](auto& c) { c.min_frequency = 0; });
  refused([](auto& c) { c.special_tokens = {"a"}; });
  refused([](auto& c) { c.special_tokens = {""}; });
  refused([](auto& c) { c.special_tokens = {"<s>", "<s>"}; });
  refused([](auto& c) { c.special_tokens = {"\xFF"}; });
  refused([](auto& c) { c.eos_token = "</s>"; });
  refused([](auto&) {}, "latin1");
  refused([](auto&) {}, "missing");
  refused([](auto&) {}, ".");
}

}  // namespace
}  // namespace molt::text
