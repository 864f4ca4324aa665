#include "molt/app/judge.h"

#include "molt/app/continuation.h"
#include "molt/base/error.h"
#include "molt/base/format.h"
#include "molt/eval/classify.h"
#include "molt/eval/exact_match.h"
#include "molt/eval/perplexity.h"

namespace molt::app {
namespace {

[[noreturn]] void refuse_plain_text(const Recipe& recipe) {
  usage_error("evaluation.metric: ", recipe.evaluation.metric,
              " needs examples with prompt and completion, and the data is plain text");
}

std::vector<data::EvalExample> questions_of(const data::Data& data, const Recipe& recipe,
                                            const data::Encoder& encoder) {
  const auto& examples = data.test ? data.test_examples : data.validation_examples;
  std::vector<data::EvalExample> questions;
  if (examples.empty()) refuse_plain_text(recipe);
  const auto limit = static_cast<size_t>(recipe.evaluation.limit.value_or(static_cast<int64_t>(examples.size())));
  for (size_t i = 0; i < std::min(limit, examples.size()); ++i)
    questions.push_back(data::encode_question(examples[i], recipe.data, encoder));
  return questions;
}

/// The classes are those seen in train, or else in what is judged.
data::LabelSet labels_of(const data::Data& data, const Recipe& recipe, const data::Encoder& encoder) {
  const auto& seen = data.train_examples.empty()
                         ? data.test_examples.empty() ? data.validation_examples : data.test_examples
                         : data.train_examples;
  return data::make_labels(seen, recipe.data, encoder);
}

void judge_answers(const eval::ModelView& view, const Recipe& recipe, const std::vector<data::EvalExample>& questions,
                   const text::Tokenizer& tokenizer, const JudgeProgress& progress, Judgement& out) {
  eval::AnswerOptions options;
  options.generate = recipe.evaluation.generate;
  options.one_line = recipe.evaluation.one_line;
  if (tokenizer.eos_id()) options.generate.stop_ids.push_back(*tokenizer.eos_id());
  auto decode = [&](const std::vector<int32_t>& ids) { return text_of(tokenizer, ids); };
  const auto answers = eval::answer(view, questions, decode, options, progress);
  out.main = "exact_match";
  out.scores.emplace_back("exact_match", eval::exact_match(answers));
  for (size_t i = 0; i < std::min(answers.size(), static_cast<size_t>(recipe.evaluation.samples)); ++i)
    out.samples.push_back({answers[i].prompt, answers[i].references.at(0), answers[i].generated, answers[i].right});
}

void judge_classes(const eval::ModelView& view, const Recipe& recipe, const data::Data& data,
                   const std::vector<data::EvalExample>& questions, const data::Encoder& encoder,
                   const JudgeProgress& progress, Judgement& out) {
  const data::LabelSet labels = labels_of(data, recipe, encoder);
  const eval::Classification result = eval::evaluate_classes(view, questions, labels, {}, progress);
  out.main = "accuracy";
  out.scores.emplace_back("accuracy", result.free.accuracy);
  out.scores.emplace_back("accuracy_among_classes", result.restricted.accuracy);
  out.scores.emplace_back("matthews", result.free.matthews);
  out.scores.emplace_back("f1_macro", result.free.f1_macro);
  out.scores.emplace_back("outside_classes", static_cast<double>(result.outside) /
                                                 static_cast<double>(std::max<size_t>(1, questions.size())));
  for (size_t i = 0; i < std::min(questions.size(), static_cast<size_t>(recipe.evaluation.samples)); ++i) {
    const int32_t said = result.predictions[i].free;
    const std::string word = said == eval::kOutside ? "(no class)" : labels.names[static_cast<size_t>(said)];
    out.samples.push_back({questions[i].prompt_text, questions[i].references.at(0), word, said == result.expected[i]});
  }
}

}  // namespace

std::string Judgement::describe() const {
  return str(format_integer(examples), examples == 1 ? " example" : " examples", " of the ", data, " data");
}

train::Scores likelihood_scores(const eval::ModelView& view, const data::Source& source, int64_t limit,
                                const JudgeProgress& progress) {
  const eval::Likelihood found = eval::likelihood(view, source, {.most_samples = limit}, progress);
  return {{"loss", found.mean()}, {"perplexity", found.perplexity()}};
}

void check_judge(const Recipe& recipe) {
  const data::DataConfig& d = recipe.data;
  if (recipe.evaluation.metric == "loss" || (d.test.empty() && d.validation.empty() && d.validation_split == 0)) return;
  if (data::is_plain_text(d)) refuse_plain_text(recipe);
}

void check_judge(const Recipe& recipe, const data::Data& data, const data::Encoder& encoder) {
  if (recipe.evaluation.metric == "loss" || (!data.test && !data.validation)) return;
  const auto questions = questions_of(data, recipe, encoder);
  if (recipe.evaluation.metric == "accuracy") eval::expected_classes(questions, labels_of(data, recipe, encoder));
}

Judgement judge(const eval::ModelView& view, const Recipe& recipe, const data::Data& data,
                const text::Tokenizer& tokenizer, const data::Encoder& encoder, const JudgeProgress& progress) {
  const bool test = data.test != nullptr;
  const auto source = test ? data.test : data.validation;
  if (!source) usage_error("data: neither test nor validation is given; there is nothing to judge on");
  Judgement out;
  out.main = "loss";
  out.data = test ? "test" : "validation";
  out.examples = std::min(source->size(), recipe.evaluation.limit.value_or(source->size()));
  const bool loss_alone = recipe.evaluation.metric == "loss";
  const auto questions = loss_alone ? std::vector<data::EvalExample>() : questions_of(data, recipe, encoder);
  // One count for both parts: every example is read for its loss, then answered.
  const auto asked = static_cast<int64_t>(questions.size());
  const auto part = [&](int64_t before, int64_t total) {
    return JudgeProgress([=, &progress](int64_t done, int64_t) {
      if (progress) progress(before + done, total);
    });
  };
  const int64_t total = out.examples + asked;
  out.scores = likelihood_scores(view, *source, recipe.evaluation.limit.value_or(0), part(0, total));
  if (loss_alone) return out;
  if (recipe.evaluation.metric == "exact_match") {
    judge_answers(view, recipe, questions, tokenizer, part(out.examples, total), out);
  } else {
    judge_classes(view, recipe, data, questions, encoder, part(out.examples, total), out);
  }
  return out;
}

}  // namespace molt::app
