#include "molt/eval/generate.h"

#include <algorithm>
#include <memory>

#include "molt/eval/carry.h"
#include "molt/eval/search.h"
#include "molt/eval/spans.h"

namespace molt::eval {
namespace {

class Decoder {
 public:
  Decoder(const ModelView& model, const std::vector<std::vector<int32_t>>& prompts, const GenerateConfig& config,
          const OnToken& on_token, const OnDone& on_done)
      : model_(model),
        prompts_(prompts),
        config_(config),
        on_token_(on_token),
        on_done_(on_done),
        results_(prompts.size()) {}

  std::vector<std::vector<int32_t>> run() {
    const size_t places = static_cast<size_t>(std::max<int64_t>(1, config_.batch_size / config_.num_beams));
    while (!active_.empty() || admitted_ < prompts_.size()) {
      const size_t free = places - active_.size();
      // A few prompts at a time: reading one alone costs nearly as much as reading several.
      if (active_.empty() || free >= (places + 3) / 4) admit(std::min(free, prompts_.size() - admitted_));
      if (!active_.empty()) step();
    }
    return std::move(results_);
  }

 private:
  struct Active {
    size_t sequence = 0;
    std::unique_ptr<Search> search;
    int64_t rows = 1;
  };

  /// Reads waiting prompts and adds them to the batch.
  void admit(size_t count) {
    if (count == 0) return;
    const std::vector<std::vector<int32_t>> prompts(prompts_.begin() + static_cast<int64_t>(admitted_),
                                                    prompts_.begin() + static_cast<int64_t>(admitted_ + count));
    const Prefilled read = prefill(model_, prompts, config_.prefill_rows, true);
    std::vector<Active> fresh(count);
    for (size_t i = 0; i < count; ++i) {
      const int64_t sequence = static_cast<int64_t>(admitted_ + i);
      TokenSink sink;
      if (on_token_) sink = [this, sequence](int32_t token) { return on_token_(sequence, token); };
      fresh[i].sequence = admitted_ + i;
      fresh[i].search = make_search(config_, prompts[i], sequence, std::move(sink));
    }
    admitted_ += count;
    std::vector<int32_t> tokens;
    const nn::Carry carry = advance(fresh, tokens, LogitRows(read.logits), read.carry);
    carry_ = join_segments(carry_, carry);
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    for (Active& a : fresh) active_.push_back(std::move(a));
  }

  /// One token more for every row.
  void step() {
    const NoGrad no_grad;
    Segments segments;
    std::vector<int64_t> rows;
    for (size_t i = 0; i < tokens_.size(); ++i) {
      segments.append(1);
      rows.push_back(static_cast<int64_t>(i));
    }
    const nn::Context context = model_.context(segments);
    nn::Carry out;
    const Var hidden = model_.model.hidden(context, tokens_, &carry_, &out);
    const LogitRows logits(model_.model.logits(context, hidden, rows).value());
    carry_ = advance(active_, tokens_, logits, out);
  }

  /// Lets each search choose; those that are over leave. Returns the carry of the rows that go on, and their tokens.
  nn::Carry advance(std::vector<Active>& searches, std::vector<int32_t>& tokens, const LogitRows& logits,
                    const nn::Carry& carry) {
    std::vector<int64_t> parents;
    std::vector<Active> left;
    tokens.clear();
    int64_t first_row = 0;
    for (Active& a : searches) {
      const std::vector<Branch> branches = a.search->advance(logits, first_row);
      for (const Branch& b : branches) {
        parents.push_back(first_row + b.parent);
        tokens.push_back(b.token);
      }
      first_row += a.rows;
      a.rows = static_cast<int64_t>(branches.size());
      if (branches.empty()) {
        finish(a);
      } else {
        left.push_back(std::move(a));
      }
    }
    searches = std::move(left);
    if (parents.empty()) return {};
    bool same = static_cast<int64_t>(parents.size()) == logits.count();
    for (size_t i = 0; same && i < parents.size(); ++i) same = parents[i] == static_cast<int64_t>(i);
    return same ? carry : take_segments(carry, parents);
  }

  void finish(const Active& a) {
    std::vector<int32_t> tokens = a.search->result();
    if (config_.num_beams > 1 && on_token_) {
      size_t told = 0;
      while (told < tokens.size() && on_token_(static_cast<int64_t>(a.sequence), tokens[told++])) {
      }
      tokens.resize(told);
    }
    results_[a.sequence] = std::move(tokens);
    if (on_done_) on_done_(static_cast<int64_t>(a.sequence));
  }

  const ModelView& model_;
  const std::vector<std::vector<int32_t>>& prompts_;
  const GenerateConfig& config_;
  const OnToken& on_token_;
  const OnDone& on_done_;
  std::vector<std::vector<int32_t>> results_;
  size_t admitted_ = 0;
  std::vector<Active> active_;
  std::vector<int32_t> tokens_;  // what each row of the batch reads next
  nn::Carry carry_;              // of the rows of the batch
};

}  // namespace

std::vector<std::vector<int32_t>> generate(const ModelView& model, const std::vector<std::vector<int32_t>>& prompts,
                                           const GenerateConfig& config, const OnToken& on_token,
                                           const OnDone& on_done) {
  config.validate();
  check_prompts(model, prompts);
  return Decoder(model, prompts, config, on_token, on_done).run();
}

}  // namespace molt::eval
