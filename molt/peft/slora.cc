#include "molt/peft/slora.h"

#include <algorithm>

#include "molt/base/error.h"
#include "molt/io/adapter.h"
#include "molt/ops/gather_rows.h"
#include "molt/ops/vector_low_rank.h"
#include "molt/peft/foldable.h"
#include "molt/peft/lora_adapter.h"
#include "molt/peft/sizes.h"

namespace molt::peft {

class SloraEdit final : public TargetEdit, public Foldable {
 public:
  SloraEdit(const nn::Target& target, const PairOptions& options)
      : TargetEdit(target), pair_(target, options), dtype_(options.dtype) {}

  /// `start`: lengths to begin a phase with.
  void adopt(const std::vector<EarlierDirection>& directions, std::optional<double> magnitude) {
    std::vector<int64_t> ranks;
    std::vector<double> lengths;
    int64_t all = 0;
    for (const EarlierDirection& d : directions) {
      ranks.push_back(d.A.rows());
      lengths.push_back(magnitude.value_or(d.magnitude));
      all += d.A.rows();
    }
    adopt(ranks, all);
    if (ranks.empty()) return;
    int64_t first = 0;
    for (const EarlierDirection& d : directions) {
      A_.row_range(first, d.A.rows()).copy_from(d.A);
      B_.col_range(first, d.A.rows()).copy_from(d.B);
      first += d.A.rows();
    }
    first_ = Tensor::from(lengths, {static_cast<int64_t>(lengths.size()), 1}).to(dtype_);
    reset();
  }

  void reset() override {
    pair_.reset();
    if (!magnitude_.defined() || !first_.defined()) return;
    Tensor m = magnitude_.value();
    m.copy_from(first_);
  }

  Var add_to_output(const nn::EditContext& e, const Var& x, const Var& y) const override {
    if (!magnitude_.defined()) return pair_.add_to_output(e, x, y);
    const Var lengths = ops::gather_rows(magnitude_, owner_);
    const Var with = ops::vector_low_rank(y, x, Var(A_), lengths, Var(B_), {}, 1, target_.begin());
    return pair_.add_to_output(e, x, with);
  }

  std::vector<nn::LowRankTerm> folded() const override {
    std::vector<nn::LowRankTerm> terms = pair_.folded();
    if (!magnitude_.defined()) return terms;
    const std::vector<double> lengths = magnitude_.value().values();
    std::vector<double> factors;
    for (const int64_t owner : owner_) factors.push_back(lengths[static_cast<size_t>(owner)]);
    terms.push_back({Var(scaled_rows(A_, factors)), Var(B_), 1, target_.begin()});
    return terms;
  }
  void merge(const nn::Site&, const Tensor& weight) const override { merge_terms(folded(), weight); }

  std::vector<nn::Trainable> trainables() const override {
    std::vector<nn::Trainable> all = pair_.trainables();
    if (magnitude_.defined()) all.push_back({name_of("slora_magnitude"), magnitude_, false});
    return all;
  }

  std::vector<std::pair<std::string, Tensor>> tensors() const override {
    std::vector<std::pair<std::string, Tensor>> all{{"lora_A.weight", pair_.A().value()},
                                                    {"lora_B.weight", pair_.B().value()}};
    if (!magnitude_.defined()) return all;
    all.emplace_back("slora_A", A_);
    all.emplace_back("slora_B", B_);
    all.emplace_back("slora_magnitude", magnitude_.value());
    all.emplace_back("slora_ranks", ranks_);
    return all;
  }

  /// Makes room for the directions that are stored, so that they can be read back.
  void prepare(const std::vector<std::pair<std::string, Tensor>>& stored) {
    const std::string begin = io::peft_key(module(), "slora_"), key = io::peft_key(module(), "slora_ranks");
    if (std::none_of(stored.begin(), stored.end(), [&](const auto& t) { return t.first.rfind(begin, 0) == 0; })) {
      adopt({}, 0);
      return;
    }
    const auto at = std::find_if(stored.begin(), stored.end(), [&](const auto& t) { return t.first == key; });
    if (at == stored.end()) usage_error("adapter: tensor ", key, " is missing");
    const Tensor& ranks = at->second;
    if (ranks.dtype() != Dtype::kI64 || ranks.rank() != 1 || ranks.numel() == 0)
      usage_error("adapter: ", key, " must hold 64-bit integers, is ", dtype_name(ranks.dtype()), " ",
                  shape_str(ranks.shape()));
    std::vector<int64_t> values(ranks.data<int64_t>(), ranks.data<int64_t>() + ranks.numel());
    constexpr int64_t kMost = 1 << 20;  // no rank of a real adapter; keeps the sum in range
    int64_t all = 0;
    for (const int64_t r : values) {
      if (r < 1 || r > kMost) usage_error("adapter: ", key, " holds the rank ", r);
      all += r;
    }
    // Sizes are checked against the file's own before anything of that size is made.
    stored_tensor(stored, io::peft_key(module(), "slora_A"), {all, target_.site->shape[1]});
    stored_tensor(stored, io::peft_key(module(), "slora_B"), {target_.size(), all});
    adopt(values, all);
  }

 private:
  void adopt(const std::vector<int64_t>& ranks, int64_t all) {
    const auto n = static_cast<int64_t>(ranks.size());
    owner_.clear();
    for (int64_t i = 0; i < n; ++i) owner_.insert(owner_.end(), static_cast<size_t>(ranks[static_cast<size_t>(i)]), i);
    if (n == 0) {
      A_ = B_ = ranks_ = first_ = Tensor();
      magnitude_ = Var();
      return;
    }
    A_ = Tensor::zeros({all, target_.site->shape[1]}, dtype_);
    B_ = Tensor::zeros({target_.size(), all}, dtype_);
    ranks_ = Tensor::from(ranks, {n});
    if (magnitude_.defined() && magnitude_.value().rows() == n) return;
    magnitude_ = Var::leaf(Tensor::zeros({n, 1}, dtype_));
    if (first_.defined() && first_.rows() != n) first_ = Tensor();
  }

  LoraAdapter pair_;
  Dtype dtype_;
  Tensor A_, B_;                // (ΣR, I), (O, ΣR): all directions side by side
  Tensor ranks_;                // (n) i64
  Tensor first_;                // (n, 1): the lengths at the start, where they are known
  std::vector<int64_t> owner_;  // whose each row of A_ is
  Var magnitude_;               // (n, 1)
};

Slora::Slora(Config config, uint64_t seed, Dtype dtype, std::vector<EarlierAdapter> earlier)
    : EditMethod(std::move(config), seed, dtype), earlier_(std::move(earlier)) {
  check_size("slora: r", config_.r);
  if (!(config_.lora_dropout >= 0 && config_.lora_dropout < 1))
    usage_error("slora: lora_dropout must be in [0, 1), is ", config_.lora_dropout);
}

void Slora::attach(const nn::SiteTable& sites) {
  for (const std::string& directory : config_.from) earlier_.emplace_back(directory);
  place(sites, config_.target_modules, {nn::SiteKind::kLinear}, [&](const nn::Target& target) {
    const auto edit =
        std::make_shared<SloraEdit>(target, PairOptions{.rank = config_.r,
                                                        .scale = config_.lora_alpha / static_cast<double>(config_.r),
                                                        .dropout = config_.lora_dropout,
                                                        .suffix = ".slora",
                                                        .seed = seed_,
                                                        .dtype = dtype_});
    std::vector<EarlierDirection> directions;
    for (EarlierAdapter& adapter : earlier_) {
      for (EarlierDirection& d : adapter.at(target)) directions.push_back(std::move(d));
    }
    edit->adopt(directions, config_.magnitude);
    own_.push_back(edit);
    return edit;
  });
  for (const EarlierAdapter& adapter : earlier_) adapter.require_all_taken();
  if (!earlier_.empty())
    coverage_ += str(", beside ", earlier_.size(), earlier_.size() == 1 ? " earlier adapter" : " earlier adapters");
  earlier_.clear();
}

void Slora::load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) {
  for (const auto& edit : own_) edit->prepare(tensors);
  EditMethod::load_state(tensors);
}

Json Slora::config_json() const {
  Json json = EditMethod::config_json();
  if (!own_.empty()) json["from"] = Json::array();
  return json;
}

}  // namespace molt::peft
