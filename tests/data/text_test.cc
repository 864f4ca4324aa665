// Plain text: documents, the token cache and windows.
#include <atomic>
#include <mutex>

#include "molt/data/token_cache.h"
#include "molt/data/window_set.h"
#include "tests/data/helpers.h"

namespace molt::data {
namespace {

using testing::expect_usage_error;
using testing::TempDir;
using testing::toy_encoder;
using Ids = std::vector<int32_t>;

std::vector<std::string> documents(const std::vector<std::string>& paths, size_t piece_bytes = 1 << 20,
                                   int* pieces = nullptr) {
  DocumentReader reader(paths, piece_bytes);
  std::vector<std::string> all(1);
  std::string piece;
  bool ends = false;
  while (reader.next(piece, ends)) {
    all.back() += piece;
    if (pieces) ++*pieces;
    if (ends) all.emplace_back();
  }
  EXPECT_EQ(all.back(), "");
  all.pop_back();
  return all;
}

Ids tokens_of(const TokenFile& file) {
  Ids ids;
  for (int64_t i = 0; i < file.size(); ++i) ids.push_back(file[i]);
  return ids;
}

TEST(Documents, EndAtTheMarkerOrTheFile) {
  TempDir dir;
  const auto a =
      dir.file("a.txt", "\n\none\n \ntwo\r\n\n<|endoftext|>\n\n<|endoftext|>\n  three\n <|endoftext|> \nfour");
  const auto b = dir.file("b.txt", "five\n");
  EXPECT_EQ(documents({a, b}), (std::vector<std::string>{"one\n\ntwo", "  three", "four", "five"}));
  EXPECT_TRUE(documents({dir.file("c.txt", "\n \n<|endoftext|>\n")}).empty());
}

TEST(Documents, LongOnesComeInPiecesCutBetweenLines) {
  TempDir dir;
  std::string text;
  for (int i = 0; i < 1000; ++i) text += str("line ", i, (i % 3 == 0 ? "\n\n" : i % 3 == 1 ? " \n" : "\n"));
  text += "last";
  int pieces = 0;
  EXPECT_EQ(documents({dir.file("a.txt", text)}, 100, &pieces).size(), 1u);
  EXPECT_GT(pieces, 50);
  EXPECT_EQ(documents({dir / "a.txt"}, 100), documents({dir / "a.txt"}));
  DocumentReader reader({dir / "a.txt"}, 100);
  std::string piece;
  for (bool ends = false; reader.next(piece, ends);)
    EXPECT_TRUE(ends || piece.substr(piece.size() - 2).find(' ') == std::string::npos)
        << "cut after a space: " << piece;
}

TEST(TokenFile, RoundTripsBothWidths) {
  TempDir dir;
  for (const int64_t vocab : {65536, 65537, 0}) {
    const Ids ids = {0, 1, 65535, 256, vocab == 65536 ? 7 : 65536};
    write_token_file(dir / "t", 42, vocab ? vocab : 0, [&](const TokenSink& sink) {
      sink({}, true);
      sink(ids, true);
    });
    const TokenFile file(dir / "t");
    EXPECT_EQ(tokens_of(file), ids);
    EXPECT_EQ(file.info().key, 42u);
    EXPECT_EQ(file.info().documents, 2);
    EXPECT_EQ(std::filesystem::file_size(dir / "t"), 64 + ids.size() * (vocab == 65536 ? 2 : 4));
  }
  expect_usage_error([&] { write_token_file(dir / "u", 1, 10, [](const TokenSink& sink) { sink({10}, true); }); },
                     {"id 10"});
  expect_usage_error([&] { write_token_file(dir / "u", 1, 0, [](const TokenSink& sink) { sink({-1}, true); }); },
                     {"id -1"});
  EXPECT_FALSE(std::filesystem::exists(dir / "u"));
}

TEST(TokenFile, RefusesDamage) {
  TempDir dir;
  write_token_file(dir / "t", 42, 300, [](const TokenSink& sink) { sink({1, 2, 299}, true); });
  std::ifstream in(dir / "t", std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(in)), {});
  ASSERT_EQ(good.size(), 70u);
  for (const size_t at : {6, 14, 22, 30, 38, 46, 54, 62}) {  // each word of the trailer
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    expect_usage_error([&] { TokenFile(dir.file("bad", bad)); }, {"bad: ", "token file"});
  }
  for (const size_t size : {0, 1, 63, 68})
    expect_usage_error([&] { TokenFile(dir.file("bad", good.substr(0, size))); }, {"bad: "});
  expect_usage_error([&] { TokenFile(dir.file("bad", "xx" + good)); }, {"bad: "});
  expect_usage_error([&] { TokenFile(dir / "absent"); }, {"absent"});
  std::string bad = good;
  bad[1] = 0x7f;  // a token past the largest
  const TokenFile file(dir.file("bad", bad));
  expect_usage_error([&] { (void)file[0]; }, {"bad: ", "token 0"});
}

TEST(TokenCache, TokenisesOnceAndNeverMixesTokenizers) {
  TempDir dir;
  const auto text = dir.file("a.txt", "ab c\n<|endoftext|>\nd\n");
  Encoder toy = toy_encoder();
  std::atomic<int> calls{0};
  const auto plain = toy.encode;
  toy.encode = [&, plain](std::string_view t) { return ++calls, plain(t); };
  std::mutex mutex;
  TokenProgress last;
  const auto progress = [&](const TokenProgress& p) {
    const std::lock_guard lock(mutex);
    EXPECT_GE(p.bytes_done, last.bytes_done);
    last = p;
  };
  const Ids expected = {257, 256, ' ', 'c', 257, 'd', 257};
  {
    TokenCache cache({text}, toy, dir / "cache", progress);
    const auto file = cache.wait();
    EXPECT_TRUE(cache.ready());
    EXPECT_FALSE(cache.reused());
    EXPECT_EQ(tokens_of(*file), expected);
    EXPECT_EQ(file->info().documents, 2);
  }
  EXPECT_EQ(last.bytes_done, last.bytes_total);
  EXPECT_EQ(last.tokens, 7);
  const int first = calls;
  {
    TokenCache cache({text}, toy, dir / "cache");
    EXPECT_TRUE(cache.reused());
    EXPECT_EQ(tokens_of(*cache.wait()), expected);
  }
  EXPECT_EQ(calls, first);
  Encoder other = toy;
  other.fingerprint = "other";
  EXPECT_FALSE(TokenCache({text}, other, dir / "cache").reused());
  other = toy;
  other.eos = 256;
  EXPECT_FALSE(TokenCache({text}, other, dir / "cache").reused());
  dir.file("a.txt", "ab c\n<|endoftext|>\nd, and more\n");
  TokenCache changed({text}, toy, dir / "cache");
  EXPECT_FALSE(changed.reused());
  EXPECT_GT(changed.wait()->size(), 7);
}

TEST(TokenCache, ThreadsAndPiecesChangeNothing) {
  TempDir dir;
  std::string text;
  for (int i = 0; i < 300000; ++i) text += str("line ", i, (i % 1000 == 999 ? "\n<|endoftext|>\n" : "\n"));
  const auto path = dir.file("a.txt", text);
  TokenCache one({path}, toy_encoder(), dir / "one", {}, 1), two({path}, toy_encoder(), dir / "two", {}, 2);
  EXPECT_EQ(tokens_of(*one.wait()), tokens_of(*two.wait()));
  EXPECT_EQ(one.wait()->info().documents, 300);
}

TEST(TokenCache, PassesErrorsOnAndLeavesNoFile) {
  TempDir dir;
  TokenCache bad({dir.file("bad.txt", "one\ntwo \xFF\n")}, toy_encoder(), dir / "cache");
  expect_usage_error([&] { bad.wait(); }, {"bad.txt:2: ", "0xff"});
  TokenCache empty({dir.file("empty.txt", "")}, toy_encoder(), dir / "cache");
  expect_usage_error([&] { empty.wait(); }, {"empty.txt: ", "nothing"});
  expect_usage_error([&] { TokenCache({dir / "absent.txt"}, toy_encoder(), dir / "cache"); }, {"absent.txt: "});
  EXPECT_TRUE(std::filesystem::is_empty(dir / "cache"));
}

TEST(TokenCache, CanBeCancelled) {
  TempDir dir;
  std::string text;
  for (int i = 0; i < 400000; ++i) text += "some line of text\n";
  Encoder toy = toy_encoder();
  std::atomic<bool> started{false}, go{false};
  const auto plain = toy.encode;
  toy.encode = [&, plain](std::string_view t) {
    started = true;
    while (!go) std::this_thread::yield();
    return plain(t);
  };
  TokenCache cache({dir.file("a.txt", text)}, toy, dir / "cache");
  while (!started) std::this_thread::yield();
  cache.cancel();
  go = true;
  EXPECT_THROW(cache.wait(), SystemError);
  EXPECT_TRUE(std::filesystem::is_empty(dir / "cache"));
}

TEST(TokenCache, MakesADamagedFileAgain) {
  TempDir dir;
  const auto text = dir.file("a.txt", "words");
  std::string kept;
  kept = TokenCache({text}, toy_encoder(), dir / "cache").wait()->path();
  std::ofstream(kept, std::ios::binary) << "garbage";
  TokenCache again({text}, toy_encoder(), dir / "cache");
  EXPECT_FALSE(again.reused());
  EXPECT_EQ(again.wait()->size(), 7);
}

std::shared_ptr<const TokenFile> stream_of(const TempDir& dir, const Ids& ids) {
  write_token_file(dir / "t", 1, 300, [&](const TokenSink& sink) { sink(ids, true); });
  return std::make_shared<TokenFile>(dir / "t");
}

TEST(Windows, PredictEveryTokenOnce) {
  TempDir dir;
  for (const int64_t n : {2, 5, 8, 9, 10, 33}) {
    Ids ids(static_cast<size_t>(n));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>(i * 7 % 250);
    const WindowSet windows(stream_of(dir, ids), {.end = n, .segment_length = 4, .eos = 257});
    Batch all;
    for (int64_t i = 0; i < windows.size(); ++i) {
      const int64_t before = all.rows();
      windows.append(i, 0, all);
      EXPECT_EQ(all.rows() - before, windows.rows(i));
      EXPECT_GE(windows.rows(i), 1);
      EXPECT_LE(windows.rows(i), 4);
    }
    EXPECT_EQ(all.ids, Ids(ids.begin(), ids.end() - 1));
    EXPECT_EQ(all.labels, Ids(ids.begin() + 1, ids.end()));
    EXPECT_EQ(all.labelled, n - 1);
  }
  expect_usage_error([&] { WindowSet(stream_of(dir, {257}), {.end = 1}); }, {"at least 2 tokens"});
}

TEST(Windows, ResetAtDocuments) {
  TempDir dir;
  const int32_t eos = 257;
  const auto file = stream_of(dir, {eos, 1, 2, eos, eos, 3, eos, 4, eos});
  WindowSet windows(file, {.end = 9, .segment_length = 100, .eos = eos});
  Batch b;
  windows.append(0, 0, b);
  EXPECT_EQ(b.segments.offsets(), (std::vector<int64_t>{0, 3, 4, 6, 8}));
  EXPECT_EQ(b.labels, (Ids{1, 2, eos, eos, 3, eos, 4, eos}));
  EXPECT_EQ(b.examples, (std::vector<int64_t>{0, 0, 0, 0}));
  EXPECT_EQ(windows.segments(0), 4);
  Batch reserved;
  windows.append(0, 2, reserved);
  EXPECT_EQ(reserved.segments.offsets(), (std::vector<int64_t>{0, 5, 8, 12, 16}));
  EXPECT_EQ(reserved.labelled, b.labelled);
  WindowSet joined(file, {.end = 9, .segment_length = 100, .reset_at_documents = false, .eos = eos});
  Batch j;
  joined.append(0, 0, j);
  EXPECT_EQ(j.segments.count(), 1);
  EXPECT_NE(joined.fingerprint(), windows.fingerprint());
}

TEST(Windows, SplitAtADocument) {
  TempDir dir;
  Ids ids(100, 5);
  for (const size_t at : {0, 40, 83, 99}) ids[at] = 257;
  const auto file = stream_of(dir, ids);
  EXPECT_EQ(split_point(*file, 0.2, 257), 83);
  EXPECT_EQ(split_point(*file, 0.1, 257), 90);  // no document starts after it
}

}  // namespace
}  // namespace molt::data
