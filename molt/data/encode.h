// Examples as token ids, with which of them are learnt.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "molt/data/config.h"
#include "molt/data/example.h"

namespace molt::data {

/// A part of a rendered chat: text that is tokenised on its own, and whether it is learnt (an assistant's turn with its
/// end mark) or only read.
struct ChatPiece {
  std::string text;
  bool learnt = false;
};

/// What the data room needs of a tokenizer. `encode` must give the same ids for the same text, without special tokens
/// added around it.
struct Encoder {
  std::function<std::vector<int32_t>(std::string_view)> encode;
  /// Renders a chat; with `ask`, it ends where the assistant is to speak. May be empty when the model has no template.
  std::function<std::vector<ChatPiece>(const std::vector<Message>&, bool ask)> render_chat;
  int32_t eos = -1;            ///< end of text; -1 when there is none
  std::vector<int32_t> start;  ///< put before every example but a chat, whose template has its own; often none
  int64_t vocab_size = 0;      ///< every id is below it; 0 is unknown
  std::string fingerprint;     ///< changes whenever the same text could give other ids
  bool thread_safe = false;    ///< whether `encode` may run in several threads at once
};

/// Ids and, for each, whether the model learns to predict it.
struct TokenExample {
  std::vector<int32_t> ids;
  std::vector<uint8_t> learnt;

  void append(const std::vector<int32_t>& more, bool learn) {
    ids.insert(ids.end(), more.begin(), more.end());
    learnt.insert(learnt.end(), more.size(), learn ? 1 : 0);
  }
  /// Predictions that count: learnt tokens after the first (nothing comes before that one).
  int64_t labelled() const;
};

/// Tokenises an example: [start] prefix | prompt | completion [eos], each piece on its own (no merge across them),
/// where the completion and eos are learnt; a text is learnt whole; of a chat, the assistant's pieces. Not cut to any
/// length. Throws UsageError at the example's place when the encoder lacks what it needs (eos, a chat template).
TokenExample encode_example(const Example& example, const DataConfig& config, const Encoder& encoder);

/// Cuts an example to `max_length` tokens. A completion keeps its end as long as it fits: the prompt loses its first
/// tokens (after the prefix, which stays); then the completion its last. Texts and chats lose their end.
void truncate(TokenExample& tokens, const Example& example, int64_t max_length, int64_t prefix_tokens);

/// Tokens of start and prefix before a prompt.
int64_t prefix_length(const DataConfig& config, const Encoder& encoder);

/// A place to ask the model from, and what it should say: for generation and for classification by label tokens.
struct EvalExample {
  std::vector<int32_t> prompt;          ///< ids up to where the model speaks
  std::string prompt_text;              ///< the same as text, without the prefix
  std::vector<std::string> references;  ///< right answers, at least one
  std::string where;
};

/// The question in an example: its prompt and references; of a chat, all before the assistant's last turn. Throws
/// UsageError for a text example, which asks nothing.
EvalExample encode_question(const Example& example, const DataConfig& config, const Encoder& encoder);

/// What a classifier chooses from.
struct LabelSet {
  std::vector<std::string> names;
  std::vector<std::vector<int32_t>> ids;  ///< each label as the completion is tokenised, without eos
};

/// The labels that the config names, or else the distinct completions of the examples in order of first sight.
/// Throws UsageError when there are more than `most`, or two labels have the same ids.
LabelSet make_labels(const std::vector<Example>& examples, const DataConfig& config, const Encoder& encoder,
                     size_t most = 100);

}  // namespace molt::data
