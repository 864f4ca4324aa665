#include "molt/eval/search.h"

#include <algorithm>
#include <cmath>

#include "molt/base/error.h"

namespace molt::eval {
namespace {

bool contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

/// Makes tokens that occurred less likely. `scores` stand in the order of their ids.
void penalise(std::vector<ScoredToken>& scores, std::vector<int32_t> occurred, double penalty) {
  std::sort(occurred.begin(), occurred.end());
  occurred.erase(std::unique(occurred.begin(), occurred.end()), occurred.end());
  for (const int32_t id : occurred) {
    double& score = scores[static_cast<size_t>(id)].score;
    score = score < 0 ? score * penalty : score / penalty;
  }
}

/// Keeps the fewest best tokens whose probabilities together reach `share`. Scores are logits.
void keep_share(std::vector<ScoredToken>& tokens, double share) {
  const double highest = std::min_element(tokens.begin(), tokens.end(), better)->score;
  double total = 0;
  for (const ScoredToken& t : tokens) total += std::exp(t.score - highest);
  // Few tokens are enough as a rule, so they are sorted in growing runs until the share is reached.
  double sum = 0;
  size_t kept = 0;
  for (size_t sorted = 0, run = 64; sorted < tokens.size() && sum < share * total; run *= 4) {
    const auto begin = tokens.begin() + static_cast<int64_t>(sorted);
    sorted = std::min(sorted + run, tokens.size());
    const auto end = tokens.begin() + static_cast<int64_t>(sorted);
    if (end != tokens.end()) std::nth_element(begin, end, tokens.end(), better);
    std::sort(begin, end, better);
    while (kept < sorted && sum < share * total) sum += std::exp(tokens[kept++].score - highest);
  }
  tokens.resize(std::max<size_t>(kept, 1));
}

/// Uniform in [0, 1), 53 bits: fine enough for the least likely of many tokens.
double fine_uniform(const Rng& rng, uint64_t position) {
  const uint64_t high = rng.bits(2 * position) >> 5, low = rng.bits(2 * position + 1) >> 6;
  return static_cast<double>(high << 26 | low) * 0x1p-53;
}

/// Draws from softmax(scores).
int32_t draw(const std::vector<ScoredToken>& tokens, double uniform) {
  const double highest = std::min_element(tokens.begin(), tokens.end(), better)->score;
  double total = 0;
  for (const ScoredToken& t : tokens) total += std::exp(t.score - highest);
  double left = uniform * total;
  const ScoredToken* last = nullptr;
  for (const ScoredToken& t : tokens) {
    const double p = std::exp(t.score - highest);
    if (p == 0) continue;
    last = &t;
    if ((left -= p) < 0) break;
  }
  return last->token;
}

}  // namespace

ChainSearch::ChainSearch(const GenerateConfig& config, std::vector<int32_t> prompt, int64_t sequence, TokenSink sink)
    : config_(config),
      tokens_(std::move(prompt)),
      prompt_(static_cast<int64_t>(tokens_.size())),
      rng_(mix_keys(mix_keys(static_cast<uint64_t>(config.seed), hash_name("generate")),
                    static_cast<uint64_t>(sequence))),
      sink_(std::move(sink)) {}

int32_t ChainSearch::choose(const LogitRows& logits, int64_t row) const {
  const bool greedy = config_.temperature == 0, penalised = config_.repetition_penalty != 1;
  if (greedy && !penalised) return logits.argmax(row);
  std::vector<ScoredToken> tokens = logits.all(row);
  if (penalised) penalise(tokens, tokens_, config_.repetition_penalty);
  if (greedy) return std::min_element(tokens.begin(), tokens.end(), better)->token;
  const double highest = std::min_element(tokens.begin(), tokens.end(), better)->score;
  for (ScoredToken& t : tokens) t.score = (t.score - highest) / config_.temperature;
  if (config_.top_k > 0) keep_best(tokens, config_.top_k);
  if (config_.top_p < 1) keep_share(tokens, config_.top_p);
  return draw(tokens, fine_uniform(rng_, tokens_.size() - static_cast<size_t>(prompt_)));
}

std::vector<Branch> ChainSearch::advance(const LogitRows& logits, int64_t first_row) {
  const int32_t token = choose(logits, first_row);
  if (contains(config_.stop_ids, token)) return {};
  tokens_.push_back(token);
  const bool goes_on = !sink_ || sink_(token);
  if (!goes_on || static_cast<int64_t>(tokens_.size()) - prompt_ == config_.max_new_tokens) return {};
  return {{.parent = 0, .token = token}};
}

BeamSearch::BeamSearch(const GenerateConfig& config, std::vector<int32_t> prompt)
    : config_(config), prompt_(std::move(prompt)) {}

double BeamSearch::normalised(double score, int64_t length) const {
  return score / std::pow(static_cast<double>(length), config_.length_penalty);
}

void BeamSearch::end(std::vector<int32_t> tokens, double score, int64_t length) {
  Hypothesis h{std::move(tokens), normalised(score, length)};
  const auto place = std::find_if(ended_.begin(), ended_.end(), [&](const Hypothesis& o) { return o.score < h.score; });
  ended_.insert(place, std::move(h));
  if (static_cast<int64_t>(ended_.size()) > config_.num_beams) ended_.pop_back();
}

std::vector<BeamSearch::Candidate> BeamSearch::candidates(const LogitRows& logits, int64_t first_row) const {
  // Enough that num_beams of them go on even if all beams would rather end.
  const int64_t count = config_.num_beams * std::max<int64_t>(2, 1 + static_cast<int64_t>(config_.stop_ids.size()));
  std::vector<Candidate> all;
  for (size_t beam = 0; beam < open_.size(); ++beam) {
    const int64_t row = first_row + static_cast<int64_t>(beam);
    std::vector<ScoredToken> next;
    if (config_.repetition_penalty == 1) {
      next = logits.best(row, count);
    } else {
      next = logits.all(row);
      for (ScoredToken& t : next) t.score -= logits.log_sum(row);
      std::vector<int32_t> occurred = prompt_;
      occurred.insert(occurred.end(), open_[beam].tokens.begin(), open_[beam].tokens.end());
      penalise(next, std::move(occurred), config_.repetition_penalty);
      keep_best(next, count);
    }
    for (ScoredToken t : next) {
      t.score += open_[beam].score;
      all.push_back({static_cast<int64_t>(beam), t});
    }
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Candidate& a, const Candidate& b) { return a.next.score > b.next.score; });
  if (static_cast<int64_t>(all.size()) > count) all.resize(static_cast<size_t>(count));
  return all;
}

std::vector<Branch> BeamSearch::advance(const LogitRows& logits, int64_t first_row) {
  const std::vector<Candidate> ranked = candidates(logits, first_row);
  const size_t beams = static_cast<size_t>(config_.num_beams);
  const int64_t length = static_cast<int64_t>(open_[0].tokens.size()) + 1;
  std::vector<Hypothesis> next;
  std::vector<Branch> branches;
  for (size_t rank = 0; rank < ranked.size() && next.size() < beams; ++rank) {
    const auto& [beam, best] = ranked[rank];
    const std::vector<int32_t>& so_far = open_[static_cast<size_t>(beam)].tokens;
    if (contains(config_.stop_ids, best.token)) {
      if (rank < beams) end(so_far, best.score, length);
      continue;
    }
    next.push_back({so_far, best.score});
    next.back().tokens.push_back(best.token);
    branches.push_back({beam, best.token});
  }
  open_ = std::move(next);
  const bool enough = ended_.size() >= beams && ended_.back().score >= normalised(ranked[0].next.score, length);
  if (enough || open_.empty()) return {};
  if (length < config_.max_new_tokens) return branches;
  for (const Hypothesis& h : open_) end(h.tokens, h.score, length);
  return {};
}

std::vector<int32_t> BeamSearch::result() const {
  MOLT_CHECK(!ended_.empty(), "beam search: asked for a result before it was over");
  return ended_[0].tokens;
}

std::unique_ptr<Search> make_search(const GenerateConfig& config, std::vector<int32_t> prompt, int64_t sequence,
                                    TokenSink sink) {
  if (config.num_beams > 1) return std::make_unique<BeamSearch>(config, std::move(prompt));
  return std::make_unique<ChainSearch>(config, std::move(prompt), sequence, std::move(sink));
}

}  // namespace molt::eval
