#include "molt/data/encoder.h"

#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>

#include "molt/base/file.h"
#include "molt/base/log.h"
#include "molt/base/rng.h"
#include "molt/text/chat_template.h"

namespace molt::data {
namespace {

/// Exercises what tokenizers differ in: spaces, digits, contractions, letters of several scripts, marks, line ends.
constexpr const char* kProbe =
    "The quick brown fox's 12345 jumps,  over\n\n\tthe LAZY dogs; we'll see... caf\xC3\xA9 \xE2\x82\xAC 3.14 "
    "\xD0\xBC\xD0\xB8\xD1\x80 \xE4\xB8\xAD\xE6\x96\x87 \xF0\x9F\x98\x80 <|endoftext|> x_y(z) == 0x1F\r\n";

}  // namespace

Encoder make_encoder(const text::Tokenizer& tokenizer, const std::string& identity) {
  Encoder e;
  e.encode = [tokenizer](std::string_view text) { return tokenizer.encode(text); };
  e.eos = tokenizer.eos_id().value_or(-1);
  e.start = tokenizer.prefix_ids();
  e.vocab_size = tokenizer.vocab_size();
  e.thread_safe = true;
  uint64_t h = mix_keys(hash_name(identity), static_cast<uint64_t>(e.vocab_size));
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id)
    if (const auto token = tokenizer.id_to_token(id)) h = mix_keys(h, hash_name(*token));
  for (const int32_t id : tokenizer.encode(kProbe)) h = mix_keys(h, static_cast<uint64_t>(id));
  e.fingerprint = std::to_string(h);
  return e;
}

std::function<std::vector<ChatPiece>(const std::vector<Message>&, bool ask)> chat_renderer(
    const std::string& directory) {
  auto chat = std::make_shared<std::optional<text::ChatTemplate>>();
  auto once = std::make_shared<std::once_flag>();
  return [directory, chat, once](const std::vector<Message>& messages, bool ask) {
    std::call_once(*once, [&] {
      if (!directory.empty()) *chat = text::ChatTemplate::of_checkpoint(directory);
      if (*chat) return;
      *chat = text::ChatTemplate::named("chatml", "");
      log_warning(directory.empty() ? "the tokenizer" : directory,
                  ": holds no chat template, so chats are written as ChatML (<|im_start|>role …)");
    });
    std::vector<text::ChatMessage> turns;
    for (const Message& m : messages) turns.push_back({m.role, m.content});
    std::vector<ChatPiece> pieces;
    for (const text::ChatPiece& piece : (*chat)->render(turns, ask)) pieces.push_back({piece.text, piece.assistant});
    return pieces;
  };
}

Encoder load_encoder(const std::string& path) {
  namespace fs = std::filesystem;
  const text::Tokenizer tokenizer = text::Tokenizer::load(path);
  const bool whole = fs::is_directory(path);
  const fs::path directory = whole ? fs::path(path) : fs::path(path).parent_path();
  std::string identity;
  if (!whole) identity = read_file(path);
  for (const char* name : {"tokenizer.json", "vocab.json", "merges.txt"})
    if (whole && fs::exists(directory / name)) identity += read_file((directory / name).string());
  Encoder encoder = make_encoder(tokenizer, identity);
  encoder.render_chat = chat_renderer(directory.empty() ? "." : directory.string());
  return encoder;
}

}  // namespace molt::data
