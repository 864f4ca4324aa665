// What a checkpoint says of its chats: tokenizer_config.json (0), or chat_template.jinja (1).
#include "molt/text/chat_template.h"
#include "tests/fuzz/target.h"

MOLT_FUZZ_TARGET(chat_template) {
  using namespace molt;
  static const fuzz::Directory directory;
  const bool jinja = fuzz::take_choice(bytes, 2) == 1;
  directory.remove(jinja ? "tokenizer_config.json" : "chat_template.jinja");
  directory.write(jinja ? "chat_template.jinja" : "tokenizer_config.json", bytes);
  if (const auto chat = text::ChatTemplate::of_checkpoint(directory.path()))
    chat->render({{"system", "a"}, {"user", "b"}, {"assistant", "c"}}, true);
}
