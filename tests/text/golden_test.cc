// Ids, texts and learned merges equal to Hugging Face `tokenizers` on small tokenizers of every form that Molt reads
// (tests/golden/tokenizer, made by tools/golden/make_tokenizer_golden.py).
#include <gtest/gtest.h>

#include "molt/base/file.h"
#include "molt/base/json.h"
#include "molt/base/str.h"
#include "molt/text/bpe_trainer.h"
#include "molt/text/tokenizer.h"
#include "tests/text/shared.h"

namespace molt::text {
namespace {

using Ids = std::vector<int32_t>;

Json golden(const std::string& name) {
  return read_json_file(str(MOLT_SOURCE_DIR, "/tests/golden/tokenizer/", name, ".json"))["body"];
}

class GoldenTokenizer : public testing::TestWithParam<const char*> {};

TEST_P(GoldenTokenizer, EqualsHuggingFace) {
  const Json body = golden(GetParam());
  const Tokenizer t = Tokenizer::parse(body["tokenizer"].dump(), GetParam());
  ASSERT_GE(body["cases"].size(), 100u);
  for (const Json& c : body["cases"]) {
    const std::string text = c["text"];
    const Ids ids = c["ids"], as_text = c.value("ids_as_text", ids);
    EXPECT_EQ(t.encode(text), ids) << c["text"];
    EXPECT_EQ(t.encode(text, false), as_text) << c["text"];
    const std::string decoded = c["decoded"];
    EXPECT_EQ(t.decode(ids), decoded) << c["text"];
    EXPECT_EQ(t.decode(ids, true), c.value("decoded_without_special", decoded)) << c["text"];
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, GoldenTokenizer,
                         testing::Values("trained", "neox", "prefix_space_and_flags", "split_ignore_merges",
                                         "falcon_stages", "digits", "split_removed", "split_merged_with_previous",
                                         "split_merged_with_next", "split_contiguous"),
                         [](const auto& info) { return std::string(info.param); });

TEST(GoldenTrainer, LearnsWhatHuggingFaceLearns) {
  const Json body = golden("trained");
  const TempDir dir;
  write_file_atomic(dir / "text.txt", body["training_text"].get<std::string>());
  BpeTrainerConfig config;
  config.vocab_size = static_cast<int32_t>(body["tokenizer"]["model"]["vocab"].size());
  config.special_tokens = {"<|endoftext|>", "<|pad|>"};
  const TrainedBpe trained = train_bpe({dir / "text.txt"}, config);
  const Json ours = Json::parse(trained.to_json().dump());
  for (const char* part : {"model", "added_tokens", "normalizer", "pre_tokenizer"})
    EXPECT_EQ(ours[part], body["tokenizer"][part]) << part;
}

}  // namespace
}  // namespace molt::text
