// Prompts continued as text, piece by piece as it becomes certain.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "molt/eval/generate_config.h"
#include "molt/eval/model_view.h"
#include "molt/text/tokenizer.h"

namespace molt::app {

/// The text of ids, special tokens left out, and ids too that are no token: an embedding may have more rows than the
/// tokenizer has words.
std::string text_of(const text::Tokenizer& tokenizer, const std::vector<int32_t>& ids);

/// Holds text back while it may be the beginning of one of the texts that end it.
class StopFilter {
 public:
  explicit StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {}
  /// What can be shown by now. Nothing more comes once stopped().
  std::string push(std::string_view text);
  /// What was held back.
  std::string finish();
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

struct ContinueOptions {
  eval::GenerateConfig generate;
  std::vector<std::string> stop;  ///< texts that end a continuation and are not part of it; none of them empty
  /// Told of each piece of text in its order; all pieces of a prompt joined are its continuation.
  std::function<void(size_t prompt, std::string_view text)> on_text;
  std::function<void(size_t prompt)> on_done;
  std::function<bool()> should_stop;  ///< asked after each token (with beams: after each result)
};

struct Continuation {
  std::string text;
  int64_t tokens = 0;  ///< new ones, without the one that ended it
  bool done = false;   ///< ended by itself, by a stop text or by max_new_tokens; not by should_stop
  bool cut = false;    ///< max_new_tokens were not enough
};

struct ContinueResult {
  std::vector<Continuation> continuations;
  bool stopped = false;  ///< by should_stop
  int64_t prompt_tokens = 0, new_tokens = 0;
  double first_seconds = 0;  ///< until the first token
  double seconds = 0;        ///< in all
};

/// Continues prompts (token ids), prompt i with views[which[i]] (eval::generate). Ends each at the tokenizer's end of
/// text. Throws UsageError as eval::generate does.
ContinueResult continue_prompts(const std::vector<eval::ModelView>& views, const std::vector<size_t>& which,
                                const text::Tokenizer& tokenizer, const std::vector<std::vector<int32_t>>& prompts,
                                const ContinueOptions& options);

/// All with one view.
ContinueResult continue_prompts(const eval::ModelView& view, const text::Tokenizer& tokenizer,
                                const std::vector<std::vector<int32_t>>& prompts, const ContinueOptions& options);

}  // namespace molt::app
