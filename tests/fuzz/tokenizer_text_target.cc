// A text under a fixed tokenizer: what is decoded piece by piece is what is decoded at once.
#include "molt/base/json.h"
#include "molt/text/tokenizer.h"
#include "tests/fuzz/target.h"

MOLT_FUZZ_TARGET(tokenizer_text) {
  static const auto tokenizer = [] {
    const molt::Json golden = molt::read_json_file(MOLT_SOURCE_DIR "/tests/golden/tokenizer/neox.json");
    return molt::text::Tokenizer::parse(golden.at("body").at("tokenizer").dump(), "neox.json");
  }();
  const auto ids = tokenizer.encode(bytes);
  molt::text::StreamDecoder stream(tokenizer);
  std::string joined;
  for (const int32_t id : ids) joined += stream.push(id);
  joined += stream.finish();
  MOLT_CHECK(joined == tokenizer.decode(ids), "tokenizer: streaming decodes something else");
}
