#include "molt/data/encode.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <unordered_set>

#include "molt/base/error.h"
#include "molt/base/escape.h"

namespace molt::data {
namespace {

void append_start(TokenExample& out, const DataConfig& config, const Encoder& encoder) {
  out.append(encoder.start, false);
  if (!config.prefix.empty()) out.append(encoder.encode(unescape(config.prefix)), false);
}

void append_end(TokenExample& out, const Example& e, const DataConfig& config, const Encoder& encoder) {
  if (!config.append_eos) return;
  if (encoder.eos < 0) usage_error(e.where, ": the tokenizer has no end-of-text token; set data.append_eos to false");
  out.append({encoder.eos}, true);
}

std::vector<ChatPiece> render(const Example& e, const std::vector<Message>& messages, bool ask,
                              const Encoder& encoder) {
  if (!encoder.render_chat)
    usage_error(e.where,
                ": the example is a chat, and the model has no chat template; choose one or use prompt and completion");
  try {
    return encoder.render_chat(messages, ask);
  } catch (const UsageError& error) {
    usage_error(e.where, ": ", error.what());
  }
}

}  // namespace

int64_t TokenExample::labelled() const {
  return learnt.empty() ? 0 : std::accumulate(learnt.begin() + 1, learnt.end(), int64_t{0});
}

int64_t prefix_length(const DataConfig& config, const Encoder& encoder) {
  TokenExample start;
  append_start(start, config, encoder);
  return static_cast<int64_t>(start.ids.size());
}

TokenExample encode_example(const Example& e, const DataConfig& config, const Encoder& encoder) {
  TokenExample out;
  if (e.layout == Layout::kChat) {
    for (const ChatPiece& piece : render(e, e.messages, false, encoder))
      if (!piece.text.empty()) out.append(encoder.encode(piece.text), piece.learnt);
    return out;
  }
  if (e.layout == Layout::kText) {
    out.append(encoder.start, false);
    out.append(encoder.encode(e.completion), true);
    append_end(out, e, config, encoder);
    return out;
  }
  append_start(out, config, encoder);
  if (!e.prompt.empty()) out.append(encoder.encode(e.prompt), false);
  if (!e.completion.empty()) out.append(encoder.encode(e.completion), true);
  append_end(out, e, config, encoder);
  return out;
}

void truncate(TokenExample& tokens, const Example& e, int64_t max_length, int64_t prefix_tokens) {
  const auto size = static_cast<int64_t>(tokens.ids.size());
  if (size <= max_length) return;
  if (e.layout == Layout::kCompletion) {
    const auto first_learnt = std::find(tokens.learnt.begin(), tokens.learnt.end(), 1) - tokens.learnt.begin();
    const int64_t cut = std::min<int64_t>(size - max_length, std::max<int64_t>(first_learnt - prefix_tokens, 0));
    tokens.ids.erase(tokens.ids.begin() + prefix_tokens, tokens.ids.begin() + prefix_tokens + cut);
    tokens.learnt.erase(tokens.learnt.begin() + prefix_tokens, tokens.learnt.begin() + prefix_tokens + cut);
  }
  if (static_cast<int64_t>(tokens.ids.size()) > max_length) {
    tokens.ids.resize(static_cast<size_t>(max_length));
    tokens.learnt.resize(static_cast<size_t>(max_length));
  }
}

EvalExample encode_question(const Example& e, const DataConfig& config, const Encoder& encoder) {
  EvalExample out;
  out.where = e.where;
  TokenExample tokens;
  if (e.layout == Layout::kText)
    usage_error(e.where, ": expected a prompt and a completion to compare with, found plain text");
  if (e.layout == Layout::kChat) {
    auto last =
        std::find_if(e.messages.rbegin(), e.messages.rend(), [](const Message& m) { return m.role == "assistant"; });
    if (last == e.messages.rend()) usage_error(e.where, ": expected a turn of the assistant, found none");
    out.references = {last->content};
    const std::vector<Message> before(e.messages.begin(), last.base() - 1);
    for (const ChatPiece& piece : render(e, before, true, encoder)) {
      out.prompt_text += piece.text;
      if (!piece.text.empty()) tokens.append(encoder.encode(piece.text), false);
    }
  } else {
    out.prompt_text = e.prompt;
    out.references = {e.completion};
    out.references.insert(out.references.end(), e.references.begin(), e.references.end());
    append_start(tokens, config, encoder);
    if (!e.prompt.empty()) tokens.append(encoder.encode(e.prompt), false);
  }
  out.prompt = std::move(tokens.ids);
  if (out.prompt.empty()) usage_error(e.where, ": expected a prompt, found an empty one");
  return out;
}

LabelSet make_labels(const std::vector<Example>& examples, const DataConfig& config, const Encoder& encoder,
                     size_t most) {
  LabelSet labels;
  labels.names = config.labels;
  if (labels.names.empty()) {
    std::unordered_set<std::string> seen;
    for (const Example& e : examples) {
      if (!seen.insert(e.completion).second) continue;
      labels.names.push_back(e.completion);
      if (labels.names.size() > most)
        usage_error(e.where, ": more than ", most,
                    " different completions; a classifier needs data.labels, or the task generates");
    }
  }
  std::set<std::vector<int32_t>> distinct;
  for (const auto& name : labels.names) {
    labels.ids.push_back(encoder.encode(name));
    if (labels.ids.back().empty()) usage_error("data.labels: label \"", name, "\" has no tokens");
    if (!distinct.insert(labels.ids.back()).second)
      usage_error("data.labels: label \"", name, "\" has the same tokens as another");
  }
  return labels;
}

}  // namespace molt::data
