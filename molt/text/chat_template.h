// Conversations as text: the built-in ChatML and Zephyr templates, and telling which of them a checkpoint uses.
// Templates are recognised, never run: a Jinja template that says anything else is refused by name.
//
//   ChatML   <|im_start|>ROLE\nCONTENT<|im_end|>\n
//   Zephyr   <|ROLE|>\nCONTENT EOS\n                (no space before EOS; roles user, system and assistant)
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace molt::text {

struct ChatMessage {
  std::string role;
  std::string content;
};

/// A stretch of a rendered conversation. Pieces are to be tokenised one by one, as a model that answers sees its
/// prompt: then no token lies across the beginning or the end of an answer.
struct ChatPiece {
  std::string text;
  /// What the assistant has to write: its content and the mark that ends its turn, without the line's end behind it.
  bool assistant = false;
};

enum class ChatFormat { kChatMl, kZephyr };

class ChatTemplate {
 public:
  /// `name` is "chatml" or "zephyr". Zephyr ends turns with `eos_token`, which must not be empty then. Throws
  /// UsageError.
  static ChatTemplate named(const std::string& name, const std::string& eos_token);

  /// The template that a checkpoint's directory holds (chat_template.jinja, else chat_template in
  /// tokenizer_config.json), with the eos_token and bos_token named there; nothing where it holds none. Throws
  /// UsageError for one that is neither ChatML nor Zephyr.
  static std::optional<ChatTemplate> of_checkpoint(const std::string& directory);

  /// The same from a template's source. `where` begins its errors.
  static ChatTemplate recognise(const std::string& jinja, const std::string& bos_token, const std::string& eos_token,
                                const std::string& where);

  /// Renders a conversation; the texts joined are what the Jinja template gives. Neighbouring pieces differ in
  /// `assistant`. With `add_generation_prompt` the text ends where the assistant is to begin. Throws UsageError for
  /// roles the template does not know.
  std::vector<ChatPiece> render(const std::vector<ChatMessage>& messages, bool add_generation_prompt = false) const;

  ChatFormat format() const { return format_; }
  const char* name() const { return format_ == ChatFormat::kChatMl ? "chatml" : "zephyr"; }
  /// The mark that ends a turn, for generation to stop at.
  std::string end_of_turn() const { return format_ == ChatFormat::kChatMl ? "<|im_end|>" : eos_; }
  /// The Jinja source, for the tokenizer_config.json of a model that has learned this template.
  std::string jinja() const;

 private:
  ChatTemplate(ChatFormat format, std::string bos, std::string eos)
      : format_(format), bos_(std::move(bos)), eos_(std::move(eos)) {}

  ChatFormat format_;
  std::string bos_;  ///< what a conversation begins with, mostly nothing
  std::string eos_;
};

}  // namespace molt::text
