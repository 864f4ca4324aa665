// Whole configs: splits, limits, mixes of files, and what makes no sense.
#include "molt/data/load.h"

#include <future>
#include <map>
#include <set>
#include <stdexcept>

#include "tests/data/helpers.h"

namespace molt::data {
namespace {

using testing::expect_usage_error;
using testing::TempDir;
using testing::toy_encoder;

std::string many(int n) {
  std::string lines;
  for (int i = 0; i < n; ++i) lines += str("{\"prompt\": \"p", i, "\", \"completion\": \"c\"}\n");
  return lines;
}

std::set<std::string> prompts(const std::vector<Example>& examples) {
  std::set<std::string> all;
  for (const auto& e : examples) all.insert(e.prompt);
  return all;
}

TEST(Load, SplitsWithoutOverlapAndTheSameWayEachTime) {
  TempDir dir;
  DataConfig c;
  c.train = {dir.file("a.jsonl", many(101))}, c.validation_split = 0.2;
  const Data a = load_data(c, toy_encoder()), b = load_data(c, toy_encoder());
  EXPECT_EQ(a.train->size(), 80);
  EXPECT_EQ(a.validation->size(), 21);  // ceil(20.2)
  EXPECT_EQ(prompts(a.validation_examples), prompts(b.validation_examples));
  auto all = prompts(a.train_examples);
  all.merge(prompts(a.validation_examples));
  EXPECT_EQ(all.size(), 101u);
  c.seed = 7;
  EXPECT_NE(prompts(load_data(c, toy_encoder()).validation_examples), prompts(a.validation_examples));
}

TEST(Load, LimitsAndJoinsFiles) {
  TempDir dir;
  DataConfig c;
  c.train = {dir.file("a.jsonl", many(10)), dir.file("b.jsonl", many(5))};
  c.test = {dir / "b.jsonl"};
  Data d = load_data(c, toy_encoder());
  EXPECT_EQ(d.train->size(), 15);
  EXPECT_EQ(d.test->size(), 5);
  EXPECT_EQ(d.validation, nullptr);
  c.limit = 3;
  d = load_data(c, toy_encoder());
  EXPECT_EQ(prompts(d.train_examples), (std::set<std::string>{"p0", "p1", "p2"}));
  c.limit_by = "sample";
  EXPECT_EQ(load_data(c, toy_encoder()).train->size(), 3);
  c.group_references = true, c.limit.reset();
  c.test = {dir / "a.jsonl", dir / "b.jsonl"};
  d = load_data(c, toy_encoder());
  EXPECT_EQ(d.test->size(), 15);
  EXPECT_EQ(d.test_examples.size(), 10u);
}

TEST(Load, PlainTextBecomesWindows) {
  TempDir dir;
  DataConfig c;
  c.train = {dir.file("a.txt", std::string(999, 'x') + "\n<|endoftext|>\n" + std::string(99, 'y'))};
  c.cache_dir = dir / "cache", c.segment_length = 100, c.validation_split = 0.095;
  const Data d = load_data(c, toy_encoder());
  // 1101 tokens: eos, 999 x, eos, 99 y, eos. The last 9.5 % (105 tokens) begin among the x; the next eos is token 1000.
  EXPECT_EQ(d.train->size(), 10);
  EXPECT_EQ(d.train->rows(9), 99);
  EXPECT_EQ(d.validation->size(), 1);
  EXPECT_EQ(d.validation->rows(0), 100);
  expect_usage_error([&] { BatchStream(d.train, {.tokens_per_batch = 50}); },
                     {"100 tokens", "tokens_per_batch (50)", "lower data.segment_length"});
  c.limit = 3;
  expect_usage_error([&] { load_data(c, toy_encoder()); }, {"data.limit"});
}

TEST(Load, OtherThingsAreDoneWhileTextIsTokenised) {
  TempDir dir;
  DataConfig c;
  c.train = {dir.file("a.txt", "some text")}, c.validation = {dir.file("b.txt", "more text")};
  c.cache_dir = dir / "cache";
  Encoder slow = toy_encoder();
  std::promise<void> done;
  const std::shared_future<void> until = done.get_future().share();
  const auto plain = slow.encode;
  // Tokenising cannot end before the other thing was done.
  slow.encode = [&, plain, until](std::string_view t) { return until.wait(), plain(t); };
  int calls = 0;
  LoadOptions options;
  options.meanwhile = [&] { ++calls, done.set_value(); };
  const Data first = load_data(c, slow, options);
  EXPECT_EQ(calls, 1);
  const Data kept = load_data(c, slow, options);
  EXPECT_EQ(calls, 1) << "nothing was tokenised, so there was nothing to wait for";
  EXPECT_EQ(first.train->size(), kept.train->size());
}

TEST(Load, EveryTextFileIsThereBeforeOneIsTokenised) {
  TempDir dir;
  DataConfig c;
  c.train = {dir.file("a.txt", "some text")}, c.validation = {dir / "absent.txt"}, c.cache_dir = dir / "cache";
  Encoder toy = toy_encoder();
  toy.encode = [](std::string_view) -> std::vector<int32_t> { throw std::logic_error("tokenised"); };
  expect_usage_error([&] { load_data(c, toy); }, {"absent.txt: cannot be read"});
  c.validation = {}, c.test = {dir.path()};
  c.format = "text";
  expect_usage_error([&] { load_data(c, toy); }, {"expected a text file, found a directory"});
}

TEST(Load, RefusesConfigsThatMakeNoSense) {
  TempDir dir;
  const auto a = dir.file("a.jsonl", many(1));
  const auto load = [&](auto change) {
    return [&, change] {
      DataConfig c;
      c.train = {a};
      change(c);
      load_data(c, toy_encoder());
    };
  };
  expect_usage_error(load([](DataConfig& c) { c.train.clear(); }), {"data.train"});
  expect_usage_error(load([](DataConfig& c) { c.format = "xml"; }), {"data.format", "\"xml\""});
  expect_usage_error(load([](DataConfig& c) { c.on_long = "cut"; }), {"data.on_long", "truncate"});
  expect_usage_error(load([](DataConfig& c) { c.limit_by = "x"; }), {"data.limit_by"});
  expect_usage_error(load([](DataConfig& c) { c.max_length = -1; }), {"data.max_length"});
  expect_usage_error(load([](DataConfig& c) { c.max_length = 1; }), {"data.max_length"});
  expect_usage_error(load([](DataConfig& c) { c.limit = 0; }), {"data.limit"});
  expect_usage_error(load([](DataConfig& c) { c.validation_split = 1; }), {"data.validation_split"});
  expect_usage_error(load([](DataConfig& c) { c.validation_split = 0.0 / 0.0; }), {"data.validation_split"});
  expect_usage_error(load([&](DataConfig& c) { c.validation_split = 0.5; }), {"at least 2"});
  expect_usage_error(load([&](DataConfig& c) { c.validation_split = 0.5, c.validation = {a}; }), {"both set"});
  expect_usage_error(load([](DataConfig& c) { c.text_field = "t", c.prompt = "{p}"; }), {"only one of"});
  expect_usage_error(load([](DataConfig& c) { c.map_completion = {"x"}; }), {"data.map_completion", "\"x\""});
  expect_usage_error(load([&](DataConfig& c) { c.validation = {dir.file("t.txt", "x")}; }), {"t.txt", "plain text"});
}

/// A visitor as the app would write one: it must compile for every member, and every key must be told apart and
/// explained.
struct Names {
  std::map<std::string, std::string> help;
  template <class T>
  void field(const char* name, T&, const char* text) {
    EXPECT_TRUE(help.emplace(name, text).second) << name;
    EXPECT_GT(std::string(text).size(), 10u) << name;
  }
};

TEST(DataConfig, NamesEveryField) {
  DataConfig c;
  Names names;
  c.visit(names);
  EXPECT_EQ(names.help.size(), 26u);
}

}  // namespace
}  // namespace molt::data
