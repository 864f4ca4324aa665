// How one sequence is continued, given the model's logits: the greedy or sampled chain, and beam search.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "molt/base/rng.h"
#include "molt/eval/generate_config.h"
#include "molt/eval/logit_rows.h"

namespace molt::eval {

/// One of the rows that the model reads next: `token`, after what row `parent` of the sequence's last rows had read.
struct Branch {
  int64_t parent = 0;
  int32_t token = 0;
};

/// The search for one sequence. It starts with one row, the prompt.
class Search {
 public:
  virtual ~Search() = default;
  /// Reads the logits of its rows, which begin at `first_row`; returns its next rows, none when it is over.
  virtual std::vector<Branch> advance(const LogitRows& logits, int64_t first_row) = 0;
  /// The new tokens, without the one that ended them.
  virtual std::vector<int32_t> result() const = 0;
};

/// Told of each token as it is chosen; false ends the sequence after it.
using TokenSink = std::function<bool(int32_t token)>;

/// One token after another: the most likely one, or (temperature > 0) one drawn. A draw depends on the seed, the
/// number of the sequence and the position in it alone, so what else is decoded at the same time makes no difference.
class ChainSearch final : public Search {
 public:
  ChainSearch(const GenerateConfig& config, std::vector<int32_t> prompt, int64_t sequence, TokenSink sink);
  std::vector<Branch> advance(const LogitRows& logits, int64_t first_row) override;
  std::vector<int32_t> result() const override { return {tokens_.begin() + prompt_, tokens_.end()}; }

 private:
  int32_t choose(const LogitRows& logits, int64_t row) const;

  const GenerateConfig& config_;
  std::vector<int32_t> tokens_;  // the prompt and what was generated
  int64_t prompt_;
  Rng rng_;
  TokenSink sink_;
};

/// Beam search as transformers' BeamSearchScorer does it by default: each step looks at the best 2 x num_beams
/// continuations; one that ends counts if it is among the best num_beams, with score Σ log p / n^length_penalty over
/// its n new tokens (the ending one included); the search is over when num_beams have ended and the best continuation,
/// scored at its present length, is no better than the worst of them, or at max_new_tokens, where open beams join the
/// ended ones. Log-probabilities are summed in f64.
class BeamSearch final : public Search {
 public:
  BeamSearch(const GenerateConfig& config, std::vector<int32_t> prompt);
  std::vector<Branch> advance(const LogitRows& logits, int64_t first_row) override;
  std::vector<int32_t> result() const override;

  struct Hypothesis {
    std::vector<int32_t> tokens;
    double score = 0;  ///< open: Σ log p; ended: that over n^length_penalty
  };
  /// What has ended, best first.
  const std::vector<Hypothesis>& ended() const { return ended_; }

 private:
  struct Candidate {
    int64_t beam;
    ScoredToken next;
  };
  std::vector<Candidate> candidates(const LogitRows& logits, int64_t first_row) const;
  void end(std::vector<int32_t> tokens, double score, int64_t length);
  double normalised(double score, int64_t length) const;

  const GenerateConfig& config_;
  std::vector<int32_t> prompt_;
  std::vector<Hypothesis> open_{1}, ended_;
};

/// The search that a config asks for; it keeps a reference to the config. With beams, `sink` is not told of anything.
std::unique_ptr<Search> make_search(const GenerateConfig& config, std::vector<int32_t> prompt, int64_t sequence,
                                    TokenSink sink);

}  // namespace molt::eval
