#include "molt/peft/boft.h"

#include <numeric>
#include <tuple>

#include "molt/base/error.h"
#include "molt/ops/permute_columns.h"
#include "molt/ops/rotate.h"
#include "molt/ops/skew_entries.h"
#include "molt/peft/kept_value.h"
#include "molt/peft/output_scale.h"

namespace molt::peft {
namespace {

/// (blocks, width) for n inputs. Throws UsageError as PEFT does where they do not fit.
std::pair<int64_t, int64_t> blocks_of(const nn::Target& target, const BoftConfig& c) {
  const int64_t n = target.site->shape[1];
  const bool by_size = c.boft_block_size > 0;
  const int64_t given = by_size ? c.boft_block_size : c.boft_block_num;
  const char* option = by_size ? "boft_block_size" : "boft_block_num";
  if (n % given != 0)
    usage_error("boft: ", option, " ", given, " does not divide the ", n, " inputs of ", target.site->path);
  const int64_t size = by_size ? given : n / given, blocks = n / size;
  if (size < 2)
    usage_error("boft: ", option, " ", given, " leaves nothing to rotate in the ", n, " inputs of ", target.site->path);
  if (c.boft_n_butterfly_factor > 1) {
    const int64_t span = int64_t{1} << (c.boft_n_butterfly_factor - 1);
    if (blocks % span != 0)
      usage_error("boft: boft_n_butterfly_factor ", c.boft_n_butterfly_factor, " needs a multiple of ", span,
                  " blocks; ", target.site->path, " has ", blocks, " of width ", size);
    if (size % 2 != 0)
      usage_error("boft: boft_n_butterfly_factor ", c.boft_n_butterfly_factor, " needs blocks of even width; those of ",
                  target.site->path, " are ", size, " wide");
  }
  return {blocks, size};
}

class ButterflyEdit final : public TargetEdit {
 public:
  ButterflyEdit(const nn::Target& target, const BoftConfig& c, Dtype dtype)
      : TargetEdit(target), factors_(c.boft_n_butterfly_factor) {
    if (target.slice)
      usage_error("target_modules: ", target.label(),
                  " is a slice; boft rotates the input, which belongs to the whole");
    std::tie(blocks_, size_) = blocks_of(target, c);
    kept_.resize(static_cast<size_t>(factors_));
    all_ = Tensor::zeros({factors_ * blocks_, size_, size_}, dtype);
    for (int64_t i = 0; i < factors_; ++i) {
      matrices_.push_back(Var::leaf(all_.row_range(i * blocks_, blocks_)));
      orders_.push_back(std::make_shared<const std::vector<int64_t>>(butterfly_order(target.site->shape[1], size_, i)));
    }
  }
  Var change_input(const nn::EditContext& e, const Var& x) const override {
    Var y = x;
    for (size_t i = matrices_.size(); i-- > 0;) {
      y = moved(y, i, true);  // (x P)[order[j]] = x[j], and back behind the blocks
      y = ops::block_rotate(y, kept_[i].get(e, [&] { return rotations(i); }));
      y = moved(y, i, false);
    }
    return y;
  }
  // y = (x M) Wᵀ with M = M_{n−1} … M_0, so the weight becomes W Mᵀ = W M_0ᵀ … M_{n−1}ᵀ.
  void merge(const nn::Site&, const Tensor& weight) const override {
    const NoGrad no_grad;
    Tensor w = weight.clone();
    for (size_t i = 0; i < matrices_.size(); ++i) {
      const Tensor R = rotations(i).value().to(weight.dtype());
      w = moved(Var(w), i, true).value();
      const Tensor out = w.like(w.shape());
      ops::multiply_blocks(w, R, true, {out, false});
      w = moved(Var(out), i, false).value();
    }
    Tensor to = weight;
    to.copy_from(w);
  }
  Stage merge_stage() const override { return Stage::kInput; }
  void refresh() override {
    for (KeptValue& kept : kept_) kept.changed();
  }
  void reset() override {
    all_.fill(0);
    refresh();
  }
  std::vector<nn::Trainable> trainables() const override {
    std::vector<nn::Trainable> all;
    for (size_t i = 0; i < matrices_.size(); ++i) all.push_back({name_of(str("boft_R.", i)), matrices_[i]});
    return all;
  }
  std::vector<std::pair<std::string, Tensor>> tensors() const override {
    return {{"boft_R", all_.reshape({factors_, blocks_, size_, size_})}};
  }

 private:
  Var rotations(size_t i) const { return ops::cayley(ops::skew_entries(matrices_[i]), size_, 0); }
  /// Columns as factor i has them, or back; the first factor has them as they are.
  Var moved(const Var& x, size_t i, bool there) const {
    return i == 0 ? x : ops::permute_columns(x, orders_[i], there);
  }

  int64_t factors_, blocks_ = 0, size_ = 0;
  Tensor all_;                 // (factors · blocks, K, K): what `matrices_` are rows of
  std::vector<Var> matrices_;  // per factor
  std::vector<ops::Order> orders_;
  std::vector<KeptValue> kept_;  // rotations
};

}  // namespace

std::vector<int64_t> butterfly_order(int64_t n, int64_t block_size, int64_t factor) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  if (factor == 0) return order;
  // In each run of 2^factor blocks: their halves, first those at even places, then those at odd ones.
  const int64_t run = block_size << factor, half = block_size / 2, halves = run / half;
  for (int64_t first = 0; first + run <= n; first += run) {
    int64_t place = first;
    for (const int64_t parity : {0, 1}) {
      for (int64_t h = parity; h < halves; h += 2) {
        for (int64_t j = 0; j < half; ++j) order[static_cast<size_t>(place++)] = first + h * half + j;
      }
    }
  }
  return order;
}

Boft::Boft(Config config, uint64_t seed, Dtype dtype) : EditMethod(std::move(config), seed, dtype) {
  const BoftConfig& c = config_;
  if ((c.boft_block_size > 0) == (c.boft_block_num > 0) || c.boft_block_size < 0 || c.boft_block_num < 0)
    usage_error("boft: one of boft_block_size and boft_block_num must be above 0 and the other 0, they are ",
                c.boft_block_size, " and ", c.boft_block_num);
  if (c.boft_n_butterfly_factor < 1 || c.boft_n_butterfly_factor > 32)
    usage_error("boft: boft_n_butterfly_factor must be from 1 to 32, is ", c.boft_n_butterfly_factor);
}

void Boft::attach(const nn::SiteTable& sites) {
  place(sites, config_.target_modules, {nn::SiteKind::kLinear},
        [&](const nn::Target& t) { return std::make_shared<ButterflyEdit>(t, config_, dtype_); });
  const std::vector<std::shared_ptr<TargetEdit>> rotations = edits_;
  for (const auto& edit : rotations) edits_.push_back(std::make_shared<OutputScale>(edit->target(), "boft_s", dtype_));
}

std::vector<MethodOptions> Boft::from_peft(const Json& config, const std::string& where) {
  refuse_set(config, {"exclude_modules", "modules_to_save", "layers_to_transform", "fan_in_fan_out"}, where);
  if (text_in(config, "bias", where, "none") != "none") usage_error(where, ": bias is not \"none\"");
  if (!is_set(config, "target_modules")) usage_error(where, ": target_modules is missing");
  return {{BoftConfig::kName,
           taken(config, {"boft_block_size", "boft_block_num", "boft_n_butterfly_factor", "target_modules"})}};
}

Json Boft::peft_config() const {
  Json json = peft_base(kPeftType);
  std::vector<std::shared_ptr<TargetEdit>> rotations(edits_.begin(), edits_.begin() + edits_.size() / 2);
  json.update({{"boft_block_size", config_.boft_block_size},
               {"boft_block_num", config_.boft_block_num},
               {"boft_n_butterfly_factor", config_.boft_n_butterfly_factor},
               {"target_modules", whole_modules(rotations, BoftConfig::kName)},
               {"boft_dropout", 0.0},
               {"bias", "none"},
               {"fan_in_fan_out", false},
               {"init_weights", true},
               {"modules_to_save", nullptr}});
  return json;
}

}  // namespace molt::peft
