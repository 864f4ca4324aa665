#include "molt/peft/xgblora.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <sstream>

#include "molt/base/error.h"
#include "molt/base/rng.h"
#include "molt/ops/low_rank.h"
#include "molt/peft/foldable.h"
#include "molt/peft/lora_pairs.h"
#include "molt/peft/sizes.h"
#include "molt/peft/targets.h"

namespace molt::peft {

/// The pairs of one target, in the order in which they are fitted.
class BoostedPairs final : public nn::Edit, public Foldable {
 public:
  BoostedPairs(int64_t rounds, LoraPairs pairs, std::vector<int64_t> round_of_pair)
      : pairs(std::move(pairs)), rounds_(rounds), round_of_pair_(std::move(round_of_pair)) {}

  Var add_to_output(const nn::EditContext& e, const Var& x, const Var& y) const override {
    const int64_t now = e.run.training ? XgbLora::round_of(e.run.phase_step, e.run.phase_steps, rounds_) : rounds_;
    const auto fitted = static_cast<size_t>(std::lower_bound(round_of_pair_.begin(), round_of_pair_.end(), now) -
                                            round_of_pair_.begin());
    Var out = y;
    if (fitted > 0) {
      concatenate(fitted);
      out = ops::low_rank(out, x, Var(A_), Var(B_), pairs[0]->scale(), pairs[0]->target().begin());
    }
    if (fitted < pairs.size() && round_of_pair_[fitted] == now) out = pairs[fitted]->add_to_output(e, x, out);
    return out;
  }
  std::vector<nn::LowRankTerm> folded() const override {
    concatenate(pairs.size());
    return {{Var(A_), Var(B_), pairs[0]->scale(), pairs[0]->target().begin()}};
  }
  void merge(const nn::Site&, const Tensor& weight) const override { merge_terms(folded(), weight); }
  std::vector<nn::Trainable> trainables() const override {
    std::vector<nn::Trainable> all;
    for (const auto& pair : pairs) {
      for (const nn::Trainable& t : pair->trainables()) all.push_back(t);
    }
    return all;
  }
  /// After values changed.
  void changed() { together_ = 0; }

  const LoraPairs pairs;

 private:
  /// The first pairs as one, in memory of its own: the tape may hold what was there before.
  void concatenate(size_t count) const {
    if (together_ == count) return;
    const int64_t r = pairs[0]->rank(), all = r * static_cast<int64_t>(count);
    const Tensor &a = pairs[0]->A().value(), &b = pairs[0]->B().value();
    A_ = a.like({all, a.cols()});
    B_ = b.like({b.rows(), all});
    for (size_t i = 0; i < count; ++i) {
      A_.row_range(static_cast<int64_t>(i) * r, r).copy_from(pairs[i]->A().value());
      B_.col_range(static_cast<int64_t>(i) * r, r).copy_from(pairs[i]->B().value());
    }
    together_ = count;
  }

  int64_t rounds_;
  std::vector<int64_t> round_of_pair_;
  mutable size_t together_ = 0;  // how many pairs A_ and B_ hold; 0: out of date
  mutable Tensor A_, B_;
};

namespace {

/// `count` of `layers`, ascending.
std::vector<int> draw(const std::vector<int>& layers, int64_t count, const Rng& rng) {
  std::vector<int> all = layers;
  for (int64_t i = 0; i < count; ++i) {
    const auto left = static_cast<uint32_t>(static_cast<int64_t>(all.size()) - i);
    std::swap(all[static_cast<size_t>(i)], all[static_cast<size_t>(i) + rng.below(static_cast<uint64_t>(i), left)]);
  }
  all.resize(static_cast<size_t>(count));
  std::sort(all.begin(), all.end());
  return all;
}

/// "0 2 5" -> {0, 2, 5}. Layers that hold no target are refused.
std::vector<int> parse_layers(const std::string& text, const std::vector<int>& layers) {
  std::istringstream in(text);
  std::set<int> found;
  std::string word;
  while (in >> word) {
    const bool number = word.size() < 7 && word.find_first_not_of("0123456789", word[0] == '-' ? 1 : 0) == word.npos;
    const int layer = number && word != "-" ? std::stoi(word) : -2;
    if (std::find(layers.begin(), layers.end(), layer) == layers.end())
      usage_error("xgblora: round_layers: '", word, "' is no layer that holds a target; these do: ", str(layers));
    found.insert(layer);
  }
  if (found.empty()) usage_error("xgblora: round_layers: a round needs at least one layer");
  return {found.begin(), found.end()};
}

LoraPairs pairs_of(const std::vector<std::shared_ptr<BoostedPairs>>& boosted) {
  LoraPairs all;
  for (const auto& b : boosted) all.insert(all.end(), b->pairs.begin(), b->pairs.end());
  return all;
}

}  // namespace

int64_t XgbLora::round_of(int64_t step, int64_t steps, int64_t rounds) {
  return steps > 0 ? std::min(rounds - 1, step * rounds / steps) : 0;
}

XgbLora::XgbLora(Config config, uint64_t seed, Dtype dtype)
    : Configured(std::move(config)), seed_(seed), dtype_(dtype) {
  const auto& c = config_;
  check_size("xgblora: rounds", c.rounds);
  check_size("xgblora: r", c.r);
  if (!(c.lora_dropout >= 0 && c.lora_dropout < 1))
    usage_error("xgblora: lora_dropout must be in [0, 1), is ", c.lora_dropout);
  if (!(c.layers >= 0) || (c.layers >= 1 && c.layers != std::floor(c.layers)))
    usage_error("xgblora: layers must be a share below 1, or a count, is ", c.layers);
  if (!c.round_layers.empty() && static_cast<int64_t>(c.round_layers.size()) != c.rounds)
    usage_error("xgblora: round_layers says ", c.round_layers.size(), " rounds, rounds ", c.rounds);
}

XgbLora::~XgbLora() = default;

void XgbLora::attach(const nn::SiteTable& sites) {
  const std::vector<nn::Target> targets = resolve_targets(sites, config_.target_modules, {nn::SiteKind::kLinear});
  std::set<int> numbers;
  for (const nn::Target& t : targets) numbers.insert(t.site->layer);
  const std::vector<int> layers(numbers.begin(), numbers.end());
  const auto all = static_cast<int64_t>(layers.size());
  int64_t count = config_.layers == 0  ? all
                  : config_.layers < 1 ? std::max<int64_t>(1, std::llround(config_.layers * static_cast<double>(all)))
                                       : static_cast<int64_t>(std::min(config_.layers, 1e9));
  if (config_.round_layers.empty() && count > all)
    usage_error("xgblora: layers is ", count, ", targets lie in ", all, " layers");
  drawn_.clear();
  for (int64_t k = 0; k < config_.rounds; ++k) {
    drawn_.push_back(config_.round_layers.empty() ? draw(layers, count, Rng(seed_, str("xgblora.round", k)))
                                                  : parse_layers(config_.round_layers[static_cast<size_t>(k)], layers));
  }
  boosted_.clear();
  std::vector<nn::Target> trained;
  for (const nn::Target& target : targets) {
    LoraPairs pairs;
    std::vector<int64_t> rounds;
    for (int64_t k = 0; k < config_.rounds; ++k) {
      const std::vector<int>& here = drawn_[static_cast<size_t>(k)];
      if (!std::binary_search(here.begin(), here.end(), target.site->layer)) continue;
      pairs.push_back(std::make_shared<LoraAdapter>(
          target, PairOptions{.rank = config_.r,
                              .scale = config_.lora_alpha / static_cast<double>(config_.r),
                              .dropout = config_.lora_dropout,
                              .suffix = str(".round", k),
                              .seed = seed_,
                              .dtype = dtype_}));
      rounds.push_back(k);
    }
    if (pairs.empty()) continue;
    boosted_.push_back(std::make_shared<BoostedPairs>(config_.rounds, std::move(pairs), std::move(rounds)));
    trained.push_back(target);
  }
  coverage_ = str(peft::coverage(sites, trained), ", ", config_.rounds, config_.rounds == 1 ? " round" : " rounds");
}

void XgbLora::bind(nn::EditSet& edits) const {
  for (const auto& b : boosted_) edits.add(*b->pairs[0]->target().site, b);
}

void XgbLora::begin_phase(int phase) {
  if (phase == 0) return;
  for (const auto& pair : pairs_of(boosted_)) pair->reset();
  after_step();
}

void XgbLora::check_steps(int64_t steps) const {
  if (steps < config_.rounds)
    usage_error("xgblora: rounds is ", config_.rounds, ", the training has ", steps,
                " steps; a round needs one at least");
}

void XgbLora::after_step() {
  for (const auto& b : boosted_) b->changed();
}

std::vector<std::pair<std::string, Tensor>> XgbLora::state() const { return pairs_state(pairs_of(boosted_), dtype_); }

void XgbLora::load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) {
  load_pairs(pairs_of(boosted_), tensors);
  after_step();
}

Json XgbLora::config_json() const {
  Json json = Configured::config_json();
  if (drawn_.empty()) return json;
  json["round_layers"] = Json::array();
  for (const std::vector<int>& layers : drawn_) {
    std::string text;
    for (const int layer : layers) text += str(text.empty() ? "" : " ", layer);
    json["round_layers"].push_back(text);
  }
  return json;
}

Json XgbLora::peft_config() const {
  return pairs_config(pairs_of(boosted_), {.r = config_.r, .lora_alpha = config_.lora_alpha});
}

int64_t XgbLora::trainable_count() const {
  int64_t count = 0;
  for (const auto& pair : pairs_of(boosted_)) count += pair->A().value().numel() + pair->B().value().numel();
  return count;
}

}  // namespace molt::peft
