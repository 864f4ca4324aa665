#include "molt/eval/classify.h"

#include <algorithm>

#include "molt/base/error.h"
#include "molt/eval/carry.h"
#include "molt/eval/logit_rows.h"
#include "molt/eval/spans.h"

namespace molt::eval {
namespace {

using Ids = std::vector<int32_t>;

/// Adds what the tokens after the first of each class say, to the predictions and to `greedy` (prompts x classes).
/// Every pair of a prompt and a longer class is one segment that starts from the prompt's carry.
void score_tails(const ModelView& model, const nn::Carry& carry, const std::vector<Ids>& classes, int64_t max_rows,
                 std::vector<ClassPrediction>& predictions, std::vector<std::vector<uint8_t>>& greedy) {
  const NoGrad no_grad;
  struct Pair {
    size_t prompt, label;
  };
  std::vector<Pair> pairs;
  auto flush = [&] {
    if (pairs.empty()) return;
    Ids ids, wanted;
    Segments segments;
    std::vector<int64_t> from, rows;
    for (const Pair& p : pairs) {
      const Ids& label = classes[p.label];
      ids.insert(ids.end(), label.begin(), label.end() - 1);
      wanted.insert(wanted.end(), label.begin() + 1, label.end());
      segments.append(static_cast<int64_t>(label.size()) - 1);
      from.push_back(static_cast<int64_t>(p.prompt));
    }
    for (size_t t = 0; t < ids.size(); ++t) rows.push_back(static_cast<int64_t>(t));
    const nn::Carry in = take_segments(carry, from);
    const nn::Context context = model.context(segments);
    const Var hidden = model.model.hidden(context, ids, &in, nullptr);
    const LogitRows logits(model.model.logits(context, hidden, rows).value());
    for (size_t i = 0; i < pairs.size(); ++i) {
      const auto [prompt, label] = pairs[i];
      for (int64_t t = segments.begin(static_cast<int64_t>(i)); t < segments.end(static_cast<int64_t>(i)); ++t) {
        const int32_t id = wanted[static_cast<size_t>(t)];
        predictions[prompt].log_probs[label] += logits.log_prob(t, id);
        greedy[prompt][label] &= logits.argmax(t) == id;
      }
    }
    pairs.clear();
  };
  int64_t rows = 0;
  for (size_t prompt = 0; prompt < predictions.size(); ++prompt) {
    for (size_t label = 0; label < classes.size(); ++label) {
      const int64_t more = static_cast<int64_t>(classes[label].size()) - 1;
      if (more == 0) continue;
      if (rows + more > max_rows) flush(), rows = 0;
      pairs.push_back({prompt, label});
      rows += more;
    }
  }
  flush();
}

std::vector<ClassPrediction> classify_batch(const ModelView& model, const std::vector<Ids>& prompts,
                                            const std::vector<Ids>& classes, int64_t max_rows) {
  const bool tails = std::any_of(classes.begin(), classes.end(), [](const Ids& ids) { return ids.size() > 1; });
  const Prefilled read = prefill(model, prompts, max_rows, tails);
  const LogitRows logits(read.logits);
  std::vector<ClassPrediction> predictions(prompts.size());
  std::vector<std::vector<uint8_t>> greedy(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    const int64_t row = static_cast<int64_t>(i);
    for (const Ids& ids : classes) {
      predictions[i].log_probs.push_back(logits.log_prob(row, ids[0]));
      greedy[i].push_back(logits.argmax(row) == ids[0]);
    }
  }
  // A segment of the tails has at most a few tokens per class, and the logits of each of its rows are needed.
  if (tails) score_tails(model, read.carry, classes, std::min<int64_t>(max_rows, 256), predictions, greedy);
  for (size_t i = 0; i < prompts.size(); ++i) {
    ClassPrediction& p = predictions[i];
    p.best = static_cast<int32_t>(std::max_element(p.log_probs.begin(), p.log_probs.end()) - p.log_probs.begin());
    size_t longest = 0;
    for (size_t k = 0; k < classes.size(); ++k) {
      if (!greedy[i][k] || classes[k].size() <= longest) continue;
      p.free = static_cast<int32_t>(k);
      longest = classes[k].size();
    }
  }
  return predictions;
}

}  // namespace

std::vector<ClassPrediction> classify(const ModelView& model, const std::vector<Ids>& prompts,
                                      const std::vector<Ids>& classes, const ClassifyOptions& options,
                                      const Progress& progress) {
  check_prompts(model, prompts);
  if (classes.empty()) usage_error("classification: there is no class to choose from");
  for (size_t k = 0; k < classes.size(); ++k) {
    if (classes[k].empty()) usage_error("classification: class ", k, " has no tokens");
    for (const int32_t id : classes[k]) {
      if (id < 0 || id >= model.vocabulary())
        usage_error("classification: token id ", id, " of class ", k, " is outside the model's vocabulary of ",
                    model.vocabulary());
    }
  }
  std::vector<ClassPrediction> all;
  while (all.size() < prompts.size()) {
    const size_t count = std::min(static_cast<size_t>(options.batch_size), prompts.size() - all.size());
    const auto begin = prompts.begin() + static_cast<int64_t>(all.size());
    const std::vector<Ids> part(begin, begin + static_cast<int64_t>(count));
    for (ClassPrediction& p : classify_batch(model, part, classes, options.rows)) all.push_back(std::move(p));
    if (progress) progress(static_cast<int64_t>(all.size()), static_cast<int64_t>(prompts.size()));
  }
  return all;
}

std::vector<int32_t> expected_classes(const std::vector<data::EvalExample>& questions, const data::LabelSet& labels) {
  std::vector<int32_t> expected;
  for (const data::EvalExample& q : questions) {
    const std::string answer = q.references.empty() ? "" : q.references[0];
    const auto found = std::find(labels.names.begin(), labels.names.end(), answer);
    if (found == labels.names.end())
      usage_error(q.where, ": the completion \"", answer.substr(0, 60), "\" is none of the ", labels.names.size(),
                  " labels; name them all in data.labels");
    expected.push_back(static_cast<int32_t>(found - labels.names.begin()));
  }
  return expected;
}

Classification evaluate_classes(const ModelView& model, const std::vector<data::EvalExample>& questions,
                                const data::LabelSet& labels, const ClassifyOptions& options,
                                const Progress& progress) {
  Classification result;
  std::vector<Ids> prompts;
  result.expected = expected_classes(questions, labels);
  for (const data::EvalExample& q : questions) prompts.push_back(q.prompt);
  result.predictions = classify(model, prompts, labels.ids, options, progress);
  std::vector<int32_t> best, free;
  for (const ClassPrediction& p : result.predictions) {
    best.push_back(p.best);
    free.push_back(p.free);
    result.outside += p.free == kOutside;
  }
  const int32_t classes = static_cast<int32_t>(labels.ids.size());
  result.restricted = class_scores(result.expected, best, classes);
  result.free = class_scores(result.expected, free, classes);
  return result;
}

}  // namespace molt::eval
