// The public data sets, where they are at hand: known counts, every line read.
#include "molt/data/batch.h"
#include "molt/data/encoder.h"
#include "molt/data/example_set.h"
#include "molt/data/load.h"
#include "tests/data/helpers.h"

namespace molt::data {
namespace {

using testing::shared_data;
using testing::toy_encoder;

class RealData : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = shared_data();
    if (root_.empty()) GTEST_SKIP() << "no real data: set MOLT_SHARED to the folder that holds data/";
  }
  std::vector<Example> read(const DataConfig& c, const std::string& path) {
    return read_examples(c, {root_ + "/" + path});
  }
  std::string root_;
};

TEST_F(RealData, Sst2) {
  DataConfig c;
  c.prompt = "{sentence}###", c.completion = "{label}", c.append_eos = false;
  const auto train = read(c, "glue/SST-2/train.tsv"), dev = read(c, "glue/SST-2/dev.tsv");
  EXPECT_EQ(train.size(), 67349u);
  ASSERT_EQ(dev.size(), 872u);
  EXPECT_EQ(dev[0].prompt, "it 's a charming and often affecting journey . ###");
  EXPECT_EQ(dev[0].completion, "1");
  EXPECT_EQ(make_labels(train, c, toy_encoder()).names.size(), 2u);
  const auto set = std::make_shared<ExampleSet>(dev, c, toy_encoder());
  const BatchStream stream(set, {.tokens_per_batch = 2048});
  int64_t labelled = 0;
  for (int64_t s = 0; s < stream.steps_per_epoch(); ++s) labelled += stream.at(0, s).labelled;
  EXPECT_EQ(labelled, 872);
}

TEST_F(RealData, OtherGlueTables) {
  DataConfig c;
  c.prompt = "{sentence1}###{sentence2}###", c.completion = "{label}";
  c.map_completion = {"entailment=0", "not_entailment=1"};
  EXPECT_EQ(read(c, "glue/RTE/train.tsv").size(), 2490u);
  EXPECT_EQ(read(c, "glue/RTE/dev.tsv").size(), 277u);
  c.map_completion.clear();
  c.prompt = "{#1 String}###{#2 String}###", c.completion = "{Quality}";
  EXPECT_EQ(read(c, "glue/MRPC/train.tsv").size(), 3668u);
  EXPECT_EQ(read(c, "glue/MRPC/dev.tsv").size(), 408u);
  c.header = false, c.prompt = "{3}###", c.completion = "{1}";
  EXPECT_EQ(read(c, "glue/CoLA/train.tsv").size(), 8551u);
  EXPECT_EQ(read(c, "glue/CoLA/dev.tsv").size(), 1043u);
}

TEST_F(RealData, E2e) {
  DataConfig c;
  c.prompt = "{mr}", c.completion = "{ref}";
  EXPECT_EQ(read(c, "e2e_nlg/trainset.csv").size(), 42061u);
  const auto dev = read(c, "e2e_nlg/devset.csv");
  EXPECT_EQ(dev.size(), 4672u);
  EXPECT_EQ(group_by_prompt(dev).size(), 547u);  // distinct meanings in the official devset
}

TEST_F(RealData, SamsumAndDart) {
  DataConfig c;
  c.prompt = "{dialogue}", c.separator = "###", c.completion = "{summary}";
  EXPECT_EQ(read(c, "samsum/train.json").size(), 14732u);
  EXPECT_EQ(read(c, "samsum/val.json").size(), 818u);
  c = {};
  c.each = "annotations", c.prompt = "{tripleset}###", c.completion = "{annotations.text}";
  const auto dev = read(c, "dart/dart-v1.1.1-full-dev.json");
  EXPECT_EQ(dev.size(), 6980u);
  EXPECT_NE(dev[0].prompt.find(" : "), std::string::npos);
}

TEST_F(RealData, RealTokenizer) {
  const std::string path = root_ + "/tokenizers/gpt-neox-20b/tokenizer.json";
  const Encoder neox = load_encoder(path);
  EXPECT_EQ(neox.eos, 0);
  EXPECT_EQ(neox.fingerprint, load_encoder(path).fingerprint);
  EXPECT_NE(neox.fingerprint, load_encoder(root_ + "/tokenizers/gpt2").fingerprint);

  // Long documents come in pieces; their ids must be those of the whole.
  testing::TempDir dir;
  const std::string text = root_ + "/text/tinyshakespeare/input.txt";
  std::ifstream in(text);
  std::string whole((std::istreambuf_iterator<char>(in)), {});
  while (whole.back() == '\n') whole.pop_back();
  DocumentReader reader({text}, 5000);
  std::string piece;
  std::vector<int32_t> ids;
  int pieces = 0;
  for (bool ends = false; reader.next(piece, ends); ++pieces) {
    const auto more = neox.encode(piece);
    ids.insert(ids.end(), more.begin(), more.end());
  }
  EXPECT_GT(pieces, 150);
  EXPECT_EQ(ids, neox.encode(whole));
}

TEST_F(RealData, PlainText) {
  testing::TempDir dir;
  DataConfig c;
  c.train = {root_ + "/text/tinyshakespeare/input.txt"}, c.validation_split = 0.1, c.cache_dir = dir.path();
  const Data d = load_data(c, toy_encoder());
  const auto bytes = static_cast<double>(std::filesystem::file_size(c.train[0]));
  const double rows = static_cast<double>(d.train->size() + d.validation->size()) * 512;
  EXPECT_NEAR(rows / bytes, 1, 0.01);  // the toy tokenizer has one token per byte, but for "ab"
  EXPECT_NEAR(static_cast<double>(d.validation->size()) / static_cast<double>(d.train->size() + d.validation->size()),
              0.1, 0.01);
}

}  // namespace
}  // namespace molt::data
