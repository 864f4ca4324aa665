#include "molt/eval/exact_match.h"

#include <algorithm>

namespace molt::eval {
namespace {

constexpr const char* kSpace = " \t\n\r\f\v";

std::string lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

/// The first line that is not blank; `complete` says whether a line break ends it.
std::string first_line(const std::string& text, bool* complete = nullptr) {
  const size_t begin = std::min(text.find_first_not_of(kSpace), text.size());
  const size_t end = text.find_first_of("\n\r", begin);
  if (complete) *complete = end != std::string::npos;
  return text.substr(begin, end == std::string::npos ? end : end - begin);
}

}  // namespace

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string::npos) return "";
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::vector<Answer> answer(const ModelView& model, const std::vector<data::EvalExample>& questions,
                           const Decode& decode, const AnswerOptions& options, const Progress& progress) {
  std::vector<std::vector<int32_t>> prompts, so_far(questions.size());
  for (const data::EvalExample& q : questions) prompts.push_back(q.prompt);
  OnToken on_token;
  if (options.one_line) {
    on_token = [&](int64_t sequence, int32_t token) {
      auto& tokens = so_far[static_cast<size_t>(sequence)];
      tokens.push_back(token);
      if (decode({token}).find_first_of("\n\r") == std::string::npos) return true;
      bool complete = false;
      first_line(decode(tokens), &complete);
      return !complete;
    };
  }

  int64_t done = 0;
  const OnDone on_done = [&](int64_t) {
    if (progress) progress(++done, static_cast<int64_t>(questions.size()));
  };
  const auto generated = generate(model, prompts, options.generate, on_token, on_done);
  std::vector<Answer> answers;
  for (size_t i = 0; i < questions.size(); ++i) {
    Answer a;
    a.where = questions[i].where;
    a.prompt = questions[i].prompt_text;
    a.references = questions[i].references;
    const std::string text = decode(generated[i]);
    bool complete = false;
    a.generated = trimmed(options.one_line ? first_line(text, &complete) : text);
    a.cut = !complete && static_cast<int64_t>(generated[i].size()) == options.generate.max_new_tokens;
    const auto form = [&](const std::string& s) { return options.ignore_case ? lower(trimmed(s)) : trimmed(s); };
    a.right = std::any_of(a.references.begin(), a.references.end(),
                          [&](const std::string& reference) { return form(reference) == form(a.generated); });
    answers.push_back(std::move(a));
  }
  return answers;
}

double exact_match(const std::vector<Answer>& answers) {
  if (answers.empty()) return 0;
  const auto right = std::count_if(answers.begin(), answers.end(), [](const Answer& a) { return a.right; });
  return static_cast<double>(right) / static_cast<double>(answers.size());
}

}  // namespace molt::eval
