// LoRA's tensors in PEFT's form. A slice becomes rows of a whole-site B that are zero elsewhere; several slices of one
// site are stacked into one adapter of their ranks' sum. Both are exact, and undone when read back.
#include <cmath>
#include <map>

#include "molt/base/error.h"
#include "molt/io/adapter.h"
#include "molt/peft/lora_adapter.h"

namespace molt::peft {
namespace {

using Group = std::vector<std::shared_ptr<LoraAdapter>>;

std::vector<Group> by_site(const std::vector<std::shared_ptr<LoraAdapter>>& adapters) {
  std::vector<Group> groups;
  for (const auto& adapter : adapters) {
    if (groups.empty() || groups.back()[0]->target().site != adapter->target().site) groups.emplace_back();
    groups.back().push_back(adapter);
  }
  return groups;
}

int64_t total_rank(const Group& group) {
  int64_t rank = 0;
  for (const auto& adapter : group) rank += adapter->rank();
  return rank;
}

}  // namespace

std::vector<std::pair<std::string, Tensor>> Lora::state() const {
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const Group& group : by_site(adapters_)) {
    const nn::Site& site = *group[0]->target().site;
    Tensor a = Tensor::zeros({total_rank(group), group[0]->A().value().cols()}, dtype_);
    Tensor b = Tensor::zeros({site.shape[0], total_rank(group)}, dtype_);
    int64_t rank = 0;
    for (const auto& adapter : group) {
      a.row_range(rank, adapter->rank()).copy_from(adapter->A().value());
      b.row_range(adapter->target().begin(), adapter->B().value().rows())
          .col_range(rank, adapter->rank())
          .copy_from(adapter->B().value());
      rank += adapter->rank();
    }
    tensors.emplace_back(io::peft_key(site.path, "lora_A.weight"), a);
    tensors.emplace_back(io::peft_key(site.path, "lora_B.weight"), b);
  }
  return tensors;
}

void Lora::load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) {
  std::map<std::string, Tensor> stored(tensors.begin(), tensors.end());
  auto take = [&](const std::string& key, const Shape& shape) {
    const auto at = stored.find(key);
    if (at == stored.end()) usage_error("adapter: tensor ", key, " is missing");
    if (at->second.shape() != shape)
      usage_error("adapter: ", key, " is ", shape_str(at->second.shape()), ", its config asks for ", shape_str(shape));
    return at->second;
  };
  for (const Group& group : by_site(adapters_)) {
    const nn::Site& site = *group[0]->target().site;
    const Tensor a = take(io::peft_key(site.path, "lora_A.weight"), {total_rank(group), group[0]->A().value().cols()});
    const Tensor b = take(io::peft_key(site.path, "lora_B.weight"), {site.shape[0], total_rank(group)});
    int64_t rank = 0;
    for (const auto& adapter : group) {
      Tensor A = adapter->A().value(), B = adapter->B().value();
      A.copy_from(a.row_range(rank, adapter->rank()));
      B.copy_from(b.row_range(adapter->target().begin(), B.rows()).col_range(rank, adapter->rank()));
      rank += adapter->rank();
    }
  }
}

std::vector<MethodOptions> Lora::from_peft(const Json& config, const std::string& where) {
  if (is_set(config, "use_dora")) usage_error(where, ": use_dora is set; DoRA adapters are not supported yet");
  if (text_in(config, "bias", where, "none") != "none")
    usage_error(where, ": bias is not \"none\"; trained biases are not supported yet");
  refuse_set(config,
             {"modules_to_save", "target_parameters", "trainable_token_indices", "layer_replication",
              "layers_to_transform", "exclude_modules", "lora_bias", "use_qalora", "use_bdlora",
              "alora_invocation_tokens", "kasa_config", "velora_config", "monteclora_config"},
             where);
  if (!config.contains("target_modules")) usage_error(where, ": target_modules is missing");
  return {{"lora", taken(config, {"r", "lora_alpha", "lora_dropout", "use_rslora", "target_modules", "rank_pattern",
                                  "alpha_pattern"})}};
}

// What PEFT must be told of each site: its rank and the alpha that gives its scale.
Json Lora::peft_config() const {
  Json ranks = Json::object(), alphas = Json::object(), modules = Json::array();
  for (const Group& group : by_site(adapters_)) {
    const std::string& path = group[0]->target().site->path;
    const int64_t rank = total_rank(group);
    const double scale = group[0]->scale();
    for (const auto& adapter : group) {
      if (adapter->scale() != scale)
        usage_error("lora: slices of ", path, " have scales ", scale, " and ", adapter->scale(),
                    "; PEFT's form holds one per module: give them equal lora_alpha / r");
    }
    const double divisor = config_.use_rslora ? std::sqrt(static_cast<double>(rank)) : static_cast<double>(rank);
    modules.push_back(path);
    if (rank != config_.r) ranks[path] = rank;
    if (scale * divisor != config_.lora_alpha) alphas[path] = json_number(scale * divisor);
  }
  Json json = peft_base(kPeftType);
  json.update({{"r", config_.r},
               {"lora_alpha", json_number(config_.lora_alpha)},
               {"lora_dropout", config_.lora_dropout},
               {"use_rslora", config_.use_rslora},
               {"target_modules", modules},
               {"rank_pattern", ranks},
               {"alpha_pattern", alphas},
               {"bias", "none"},
               {"fan_in_fan_out", false},
               {"init_lora_weights", true},
               {"modules_to_save", nullptr}});
  return json;
}

}  // namespace molt::peft
