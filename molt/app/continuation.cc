#include "molt/app/continuation.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "molt/base/error.h"
#include "molt/eval/generate.h"

namespace molt::app {
namespace {

struct Interrupt {};

/// One prompt's text on its way out.
struct Stream {
  text::StreamDecoder decoder;
  StopFilter filter;
};

}  // namespace

std::string text_of(const text::Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::vector<int32_t> known;
  for (const int32_t id : ids)
    if (tokenizer.id_to_token(id)) known.push_back(id);
  return tokenizer.decode(known, true);
}

std::string StopFilter::push(std::string_view text) {
  if (stopped_) return "";
  held_ += text;
  size_t end = std::string::npos;
  for (const std::string& stop : stops_) end = std::min(end, held_.find(stop));
  if (end != std::string::npos) {
    stopped_ = true;
    return std::exchange(held_, "").substr(0, end);
  }
  size_t keep = 0;  // the longest end that begins a stop
  for (const std::string& stop : stops_) {
    for (size_t n = std::min(stop.size() - 1, held_.size()); n > keep; --n)
      if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) keep = n;
  }
  std::string shown = held_.substr(0, held_.size() - keep);
  held_.erase(0, shown.size());
  return shown;
}

std::string StopFilter::finish() { return stopped_ ? "" : std::exchange(held_, ""); }

ContinueResult continue_prompts(const eval::ModelView& view, const text::Tokenizer& tokenizer,
                                const std::vector<std::vector<int32_t>>& prompts, const ContinueOptions& options) {
  return continue_prompts({view}, std::vector<size_t>(prompts.size(), 0), tokenizer, prompts, options);
}

ContinueResult continue_prompts(const std::vector<eval::ModelView>& views, const std::vector<size_t>& which,
                                const text::Tokenizer& tokenizer, const std::vector<std::vector<int32_t>>& prompts,
                                const ContinueOptions& options) {
  using Clock = std::chrono::steady_clock;
  for (const std::string& stop : options.stop)
    if (stop.empty()) usage_error("--stop: expected some text, found none");
  eval::GenerateConfig config = options.generate;
  if (tokenizer.eos_id()) config.stop_ids.push_back(*tokenizer.eos_id());
  // A special token leaves no text for the filter to see.
  for (const std::string& stop : options.stop)
    if (const auto id = tokenizer.token_to_id(stop)) config.stop_ids.push_back(*id);
  ContinueResult result;
  result.continuations.resize(prompts.size());
  std::vector<Stream> streams;
  for (const auto& prompt : prompts) {
    result.prompt_tokens += static_cast<int64_t>(prompt.size());
    streams.push_back({text::StreamDecoder(tokenizer, true), StopFilter(options.stop)});
  }
  const auto began = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - began).count(); };
  const auto show = [&](size_t i, const std::string& text) {
    result.continuations[i].text += text;
    if (options.on_text && !text.empty()) options.on_text(i, text);
  };
  const auto on_token = [&](int64_t sequence, int32_t token) {
    if (result.new_tokens++ == 0) result.first_seconds = elapsed();
    const auto i = static_cast<size_t>(sequence);
    ++result.continuations[i].tokens;
    if (tokenizer.id_to_token(token)) show(i, streams[i].filter.push(streams[i].decoder.push(token)));
    if (options.should_stop && options.should_stop()) throw Interrupt{};
    return !streams[i].filter.stopped();
  };
  const auto on_done = [&](int64_t sequence) {
    const auto i = static_cast<size_t>(sequence);
    Continuation& c = result.continuations[i];
    show(i, streams[i].filter.push(streams[i].decoder.finish()));
    show(i, streams[i].filter.finish());
    c.done = true;
    c.cut = !streams[i].filter.stopped() && c.tokens >= config.max_new_tokens;
    if (options.on_done) options.on_done(i);
  };
  try {
    eval::generate(views, which, prompts, config, on_token, on_done);
  } catch (const Interrupt&) {
    result.stopped = true;
  }
  result.seconds = elapsed();
  return result;
}

}  // namespace molt::app
