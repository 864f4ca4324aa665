// A file of examples, and its examples as token ids. The first digit says which format, the second which layout.
#include "molt/data/encode.h"
#include "molt/data/encoder.h"
#include "molt/data/token_cache.h"
#include "tests/fuzz/target.h"

MOLT_FUZZ_TARGET(records) {
  using namespace molt;
  static const fuzz::MemoryFile file;
  static const data::Encoder encoder = [] {
    data::Encoder e;
    e.encode = [](std::string_view text) { return std::vector<int32_t>(text.begin(), text.end()); };
    e.render_chat = data::chat_renderer("");
    e.eos = 256;
    return e;
  }();
  const int format = fuzz::take_choice(bytes, 4), layout = fuzz::take_choice(bytes, 5);
  const std::string& path = file.write(bytes);
  if (format == 3) {
    data::DocumentReader reader({path}, 64);
    std::string piece;
    for (bool ends = false; reader.next(piece, ends);) {
    }
    return;
  }
  data::DataConfig config;
  config.format = format == 0 ? "jsonl" : format == 1 ? "csv" : "tsv";
  if (layout == 1) config.messages_field = "messages";
  if (layout == 2) config.text_field = "text";
  if (layout == 3) config.prompt = "{a.0.b} {{ {c}", config.completion = "{0}", config.header = false;
  if (layout == 4) config.each = "turns", config.prompt = "{turns.q}", config.completion = "{turns.a}";
  config.validate();
  for (const data::Example& e : data::read_examples(config, {path})) {
    data::TokenExample tokens = data::encode_example(e, config, encoder);
    data::truncate(tokens, e, 8, 0);
    if (e.layout != data::Layout::kText) data::encode_question(e, config, encoder);
  }
}
