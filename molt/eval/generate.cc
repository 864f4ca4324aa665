#include "molt/eval/generate.h"

#include <algorithm>
#include <iterator>
#include <memory>

#include "molt/eval/carry.h"
#include "molt/eval/search.h"
#include "molt/eval/spans.h"
#include "molt/nn/mixed_edits.h"

namespace molt::eval {
namespace {

/// A sequence on its way.
struct Active {
  size_t sequence = 0;
  size_t view = 0;
  std::unique_ptr<Search> search;
  int64_t rows = 1;
};

/// Sequences that go through the model together.
struct Lane {
  std::vector<Active> active;    // of equal views beside each other
  std::vector<int32_t> tokens;   // what each row of the batch reads next
  nn::Carry carry;               // of the rows of the batch
  std::vector<size_t> mixed_of;  // the views of the rows that `mixed` was made for
  nn::EditSet mixed;
};

class Decoder {
 public:
  Decoder(const std::vector<ModelView>& views, const std::vector<size_t>& which,
          const std::vector<std::vector<int32_t>>& prompts, const GenerateConfig& config, const OnToken& on_token,
          const OnDone& on_done)
      : views_(views),
        which_(which),
        prompts_(prompts),
        config_(config),
        on_token_(on_token),
        on_done_(on_done),
        results_(prompts.size()) {
    // Lane 0 is for all that act by rows, the plain base among them.
    lanes_.emplace_back();
    for (const ModelView& view : views) {
      const bool alone = view.edits && !nn::why_not_by_rows(*view.edits, view.model.sites()).empty();
      lane_of_.push_back(alone ? lanes_.size() : 0);
      if (alone) lanes_.emplace_back();
    }
  }

  std::vector<std::vector<int32_t>> run() {
    const size_t places = static_cast<size_t>(std::max<int64_t>(1, config_.batch_size / config_.num_beams));
    for (;;) {
      size_t active = 0;
      for (const Lane& lane : lanes_) active += lane.active.size();
      if (active == 0 && admitted_ == prompts_.size()) break;
      const size_t free = places - active;
      // A few prompts at a time: reading one alone costs nearly as much as reading several.
      if (active == 0 || free >= (places + 3) / 4) admit(std::min(free, prompts_.size() - admitted_));
      for (Lane& lane : lanes_) {
        if (!lane.active.empty()) step(lane);
      }
    }
    return std::move(results_);
  }

 private:
  /// Reads waiting prompts and adds them to their lanes.
  void admit(size_t count) {
    for (size_t view = 0; count > 0 && view < views_.size(); ++view) {
      std::vector<std::vector<int32_t>> prompts;
      std::vector<Active> fresh;
      for (size_t i = admitted_; i < admitted_ + count; ++i) {
        if (which_[i] != view) continue;
        const auto sequence = static_cast<int64_t>(i);
        TokenSink sink;
        if (on_token_) sink = [this, sequence](int32_t token) { return on_token_(sequence, token); };
        prompts.push_back(prompts_[i]);
        fresh.push_back({i, view, make_search(config_, prompts_[i], sequence, std::move(sink))});
      }
      if (prompts.empty()) continue;
      const Prefilled read = prefill(views_[view], prompts, config_.prefill_rows, true);
      std::vector<int32_t> tokens;
      const nn::Carry carry = advance(fresh, tokens, LogitRows(read.logits), read.carry);
      join(lanes_[lane_of_[view]], std::move(fresh), tokens, carry);
    }
    admitted_ += count;
  }

  /// Adds sequences of one view behind those of it that are there.
  static void join(Lane& lane, std::vector<Active> fresh, const std::vector<int32_t>& tokens, const nn::Carry& carry) {
    if (fresh.empty()) return;
    const size_t view = fresh[0].view;
    size_t at = 0;
    int64_t rows = 0, all = static_cast<int64_t>(lane.tokens.size());
    while (at < lane.active.size() && lane.active[at].view <= view) rows += lane.active[at++].rows;
    lane.active.insert(lane.active.begin() + static_cast<int64_t>(at), std::make_move_iterator(fresh.begin()),
                       std::make_move_iterator(fresh.end()));
    lane.tokens.insert(lane.tokens.begin() + rows, tokens.begin(), tokens.end());
    lane.carry = join_segments(lane.carry, carry);
    if (rows == all) return;
    std::vector<int64_t> order;
    const auto added = static_cast<int64_t>(tokens.size());
    for (int64_t i = 0; i < rows; ++i) order.push_back(i);
    for (int64_t i = 0; i < added; ++i) order.push_back(all + i);
    for (int64_t i = rows; i < all; ++i) order.push_back(i);
    lane.carry = take_segments(lane.carry, order);
  }

  /// One token more for every row of a lane.
  void step(Lane& lane) {
    const NoGrad no_grad;
    Segments segments;
    std::vector<int64_t> rows;
    for (size_t i = 0; i < lane.tokens.size(); ++i) {
      segments.append(1);
      rows.push_back(static_cast<int64_t>(i));
    }
    const ModelView& first = views_[lane.active[0].view];
    nn::Context context = first.context(segments);
    if (lane.active.front().view != lane.active.back().view) context.edits = &mixed_for(lane, segments);
    nn::Carry out;
    const Var hidden = first.model.hidden(context, lane.tokens, &lane.carry, &out);
    const LogitRows logits(first.model.logits(context, hidden, rows).value());
    lane.carry = advance(lane.active, lane.tokens, logits, out);
  }

  const nn::EditSet& mixed_for(Lane& lane, const Segments& segments) {
    std::vector<size_t> of;
    std::vector<nn::EditRun> runs;
    for (const Active& a : lane.active) {
      const bool goes_on = !of.empty() && of.back() == a.view;
      if (!goes_on) runs.push_back({views_[a.view].edits, 0});
      runs.back().segments += a.rows;
      of.insert(of.end(), static_cast<size_t>(a.rows), a.view);
    }
    if (of != lane.mixed_of) {
      lane.mixed = nn::mixed_edits(views_[0].model.sites(), segments, runs);
      lane.mixed_of = std::move(of);
    }
    return lane.mixed;
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

  const std::vector<ModelView>& views_;
  const std::vector<size_t>& which_;
  const std::vector<std::vector<int32_t>>& prompts_;
  const GenerateConfig& config_;
  const OnToken& on_token_;
  const OnDone& on_done_;
  std::vector<std::vector<int32_t>> results_;
  size_t admitted_ = 0;
  std::vector<Lane> lanes_;
  std::vector<size_t> lane_of_;  // of each view
};

}  // namespace

std::vector<std::vector<int32_t>> generate(const ModelView& model, const std::vector<std::vector<int32_t>>& prompts,
                                           const GenerateConfig& config, const OnToken& on_token,
                                           const OnDone& on_done) {
  return generate(std::vector<ModelView>{model}, std::vector<size_t>(prompts.size(), 0), prompts, config, on_token,
                  on_done);
}

std::vector<std::vector<int32_t>> generate(const std::vector<ModelView>& views, const std::vector<size_t>& which,
                                           const std::vector<std::vector<int32_t>>& prompts,
                                           const GenerateConfig& config, const OnToken& on_token,
                                           const OnDone& on_done) {
  config.validate();
  MOLT_CHECK(!views.empty() && which.size() == prompts.size(), "generate: ", which.size(), " choices of a view for ",
             prompts.size(), " prompts");
  for (const size_t view : which) MOLT_CHECK(view < views.size(), "generate: view ", view, " of ", views.size());
  for (const ModelView& view : views) MOLT_CHECK(&view.model == &views[0].model, "generate: views of different models");
  check_prompts(views[0], prompts);
  return Decoder(views, which, prompts, config, on_token, on_done).run();
}

}  // namespace molt::eval
