// Training from scratch on plain text, as a user does it: tokenised once, with a bar, while the weights are drawn; the
// result is judged by its perplexity.
#include <cmath>

#include "molt/base/file.h"
#include "molt/base/json.h"
#include "tests/cli/tiny.h"

namespace molt::test {
namespace {

TEST(PlainText, IsTokenisedOnceAndTrainsAModelFromScratch) {
  std::string text;
  for (int i = 0; i < 400; ++i)
    text +=
        "the " + std::to_string(i % 7) + " hills lie beyond the river" + (i % 20 == 19 ? "\n<|endoftext|>\n" : "\n");
  const std::string book = scratch().write("book.txt", text), tokenizer = scratch().file("book_tokenizer"),
                    cache = scratch().file("book_cache");
  ASSERT_EQ(run_molt("tokenizer " + book + " --vocabulary 300 --out " + tokenizer).code, 0);
  const std::string recipe = scratch().write(
      "book.yaml", "from_scratch: {d_model: 32, layers: 2}\nmethod: full\ntokenizer: " + tokenizer +
                       "\ndata: {train: " + book + ", validation_split: 0.2, segment_length: 64, cache_dir: " + cache +
                       "}\nmax_steps: 30\ntokens_per_batch: 256\nlearning_rate: 1e-2\n");
  const auto train = [&](const std::string& name) {
    const Ran ran = run_molt("train " + recipe + " output_dir=" + scratch().file(name));
    EXPECT_EQ(ran.code, 0) << ran.err;
    return ran;
  };
  const Ran first = train("book_first"), again = train("book_again");
  EXPECT_TRUE(has(first.err, "tokenise (MiB)"));
  EXPECT_EQ(again.err.find("tokenise"), std::string::npos) << "tokenised twice";
  // Weights drawn while text was tokenised are those drawn without.
  EXPECT_EQ(read_file(scratch().file("book_first") + "/model/model.safetensors"),
            read_file(scratch().file("book_again") + "/model/model.safetensors"));

  const Ran judged = run_molt("eval --model " + scratch().file("book_first") + "/model --data " + book +
                              " --json data.segment_length=64 data.cache_dir=" + cache);
  ASSERT_EQ(judged.code, 0) << judged.err;
  const Json scores = Json::parse(judged.out).at("scores");
  const double loss = scores.at("loss"), perplexity = scores.at("perplexity");
  EXPECT_NEAR(perplexity, std::exp(loss), 1e-9 * perplexity);
  EXPECT_LT(loss, 3) << "a uniform guess over 300 tokens has 5.7";
}

}  // namespace
}  // namespace molt::test
