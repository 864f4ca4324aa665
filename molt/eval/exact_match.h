// Answers in the model's own words: generated completions, and how many of them are right to the letter.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "molt/data/encode.h"
#include "molt/eval/generate.h"
#include "molt/eval/perplexity.h"

namespace molt::eval {

/// The text of ids, special tokens left out.
using Decode = std::function<std::string(const std::vector<int32_t>&)>;

struct AnswerOptions {
  GenerateConfig generate;
  bool one_line = false;     ///< an answer ends at the first line break after its first word
  bool ignore_case = false;  ///< ASCII letters are compared without regard to case
};

/// A generated completion beside what was expected.
struct Answer {
  std::string where;  ///< the place the question comes from
  std::string prompt;
  std::vector<std::string> references;  ///< right answers
  std::string generated;                ///< without white space around it
  bool right = false;                   ///< equal to a reference
  bool cut = false;                     ///< max_new_tokens were not enough
};

/// Answers in the order of the questions. The progress counts questions that are done.
std::vector<Answer> answer(const ModelView& model, const std::vector<data::EvalExample>& questions,
                           const Decode& decode, const AnswerOptions& options, const Progress& progress = {});

/// Share of answers that are right; 0 without any.
double exact_match(const std::vector<Answer>& answers);

/// A text without white space (ASCII) around it.
std::string trimmed(const std::string& text);

}  // namespace molt::eval
