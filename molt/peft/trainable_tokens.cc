#include "molt/peft/trainable_tokens.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "molt/base/error.h"
#include "molt/io/adapter.h"
#include "molt/nn/parameter.h"
#include "molt/ops/token_rows.h"
#include "molt/peft/base_weight.h"

namespace molt::peft {
namespace {

class OwnRows final : public TargetEdit {
 public:
  OwnRows(const nn::Target& target, const std::vector<int64_t>& ids, Dtype dtype) : TargetEdit(target), ids_(ids) {
    Tensor rows = Tensor::zeros({static_cast<int64_t>(ids.size()), target.site->shape[1]}, dtype);
    for (size_t j = 0; j < ids.size(); ++j) {
      if (ids[j] < 0 || ids[j] >= target.site->shape[0])
        usage_error("token_indices: ", ids[j], " is not among the ", target.site->shape[0], " tokens of ",
                    target.site->path);
      if (has_weights(*target.site))
        rows.row_range(static_cast<int64_t>(j), 1).copy_from(base_rows(*target.site, ids[j], 1, dtype));
    }
    rows_ = Var::leaf(rows);
  }
  Var add_to_rows(const nn::EditContext&, const std::vector<int32_t>& ids, const Var& y) const override {
    std::vector<int64_t> places;
    for (const int32_t id : ids) {
      const auto at = std::find(ids_.begin(), ids_.end(), id);
      places.push_back(at == ids_.end() ? -1 : at - ids_.begin());
    }
    return ops::replace_rows(y, rows_, std::move(places));
  }
  void merge(const nn::Site&, const Tensor& weight) const override {
    for (size_t j = 0; j < ids_.size(); ++j)
      weight.row_range(ids_[j], 1).copy_from(rows_.value().row_range(static_cast<int64_t>(j), 1));
  }
  bool covers_shared_weight() const override { return true; }
  std::vector<nn::Trainable> trainables() const override { return {{name_of("trainable_tokens_delta"), rows_}}; }
  const Var& rows() const { return rows_; }

 private:
  std::vector<int64_t> ids_;
  Var rows_;
};

/// The same rows where the embedding is the head too. It holds no trainable of its own.
class OwnLogits final : public nn::Edit {
 public:
  OwnLogits(std::shared_ptr<OwnRows> rows, std::vector<int64_t> ids) : rows_(std::move(rows)), ids_(std::move(ids)) {}
  Var add_to_output(const nn::EditContext&, const Var& x, const Var& y) const override {
    return ops::replace_logits(y, x, rows_->rows(), ids_);
  }
  void merge(const nn::Site&, const Tensor&) const override {}  // the rows are in the weight already
  bool covers_shared_weight() const override { return true; }
  std::vector<nn::Trainable> trainables() const override { return {}; }
  Tensor rows() const { return rows_->rows().value(); }

 private:
  std::shared_ptr<OwnRows> rows_;
  std::vector<int64_t> ids_;
};

}  // namespace

TrainableTokens::TrainableTokens(Config config, uint64_t seed, Dtype dtype)
    : EditMethod(std::move(config), seed, dtype) {
  std::set<int64_t> seen;
  for (const std::string& text : config_.token_indices) {
    int64_t id = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (error != std::errc() || end != text.data() + text.size())
      usage_error("token_indices: expected whole numbers, found '", text, "'");
    if (!seen.insert(id).second) usage_error("token_indices: ", id, " is named twice");
    ids_.push_back(id);
  }
  if (ids_.empty()) usage_error("token_indices: is empty; name at least one token's id");
}

void TrainableTokens::attach(const nn::SiteTable& sites) {
  place(sites, config_.target_modules, {nn::SiteKind::kEmbedding}, [&](const nn::Target& t) {
    auto edit = std::make_shared<OwnRows>(t, ids_, dtype_);
    for (const nn::Site& site : sites.all()) {
      if (site.kind == nn::SiteKind::kLinear && site.parameter == t.site->parameter)
        heads_.emplace_back(&site, std::make_shared<OwnLogits>(edit, ids_));
    }
    return edit;
  });
}

void TrainableTokens::bind(nn::EditSet& edits) const {
  EditMethod::bind(edits);
  for (const auto& [site, edit] : heads_) edits.add(*site, edit);
}

std::vector<std::pair<std::string, Tensor>> TrainableTokens::adapter_state() const {
  auto tensors = state();
  for (const auto& [site, edit] : heads_)
    tensors.emplace_back(io::peft_key(site->path, "trainable_tokens_delta"),
                         static_cast<const OwnLogits&>(*edit).rows());
  return tensors;
}

std::vector<MethodOptions> TrainableTokens::from_peft(const Json& config, const std::string& where) {
  Json options = taken(config, {"token_indices", "target_modules"});
  if (!options.contains("token_indices")) usage_error(where, ": token_indices is missing");
  return {{TrainableTokensConfig::kName, options}};
}

Json TrainableTokens::peft_config() const {
  Json json = peft_base(kPeftType);
  json.update({{"token_indices", ids_},
               {"target_modules", whole_modules(edits_, TrainableTokensConfig::kName)},
               {"init_weights", true}});
  return json;
}

}  // namespace molt::peft
