// LoRA's tensors in PEFT's form (lora_pairs.h), its magnitudes beside them, and its config in both directions.
#include <algorithm>
#include <cmath>

#include "molt/base/error.h"
#include "molt/io/adapter.h"
#include "molt/peft/edit_method.h"
#include "molt/peft/lora_pairs.h"

namespace molt::peft {
namespace {

using Group = LoraPairs;

std::vector<Group> by_site(const LoraPairs& adapters) {
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

/// One pair among those that are stacked: what stands where in the whole-site A and B.
struct Piece {
  Tensor A, B;
  int64_t row = 0;      ///< of A, and column of B
  int64_t out = 0;      ///< first row of B
  bool origin = false;  ///< B is stored with the other sign
};

/// The pairs of a group: those that train, then those they came from, whose product is taken away.
std::vector<Piece> pieces(const Group& group, bool with_origins) {
  std::vector<Piece> out;
  int64_t row = 0;
  for (const auto& a : group) {
    out.push_back({a->A().value(), a->B().value(), row, a->target().begin(), false});
    row += a->rank();
  }
  for (const auto& a : group) {
    if (!with_origins || !a->has_origin()) continue;
    out.push_back({a->A0(), a->B0(), row, a->target().begin(), true});
    row += a->rank();
  }
  return out;
}

struct Keys {
  std::string A, B;
};
Keys keys_of(const Group& group) {
  const std::string& path = group[0]->target().site->path;
  const bool embedding = group[0]->embedding();
  return {io::peft_key(path, embedding ? "lora_embedding_A" : "lora_A.weight"),
          io::peft_key(path, embedding ? "lora_embedding_B" : "lora_B.weight")};
}

/// Rows of a whole-site B.
int64_t out_rows(const Group& group) {
  return group[0]->embedding() ? group[0]->B().value().rows() : group[0]->target().site->shape[0];
}

Tensor part_of(const Tensor& B, const Piece& piece) {
  return B.row_range(piece.out, piece.B.rows()).col_range(piece.row, piece.B.cols());
}

}  // namespace

std::vector<std::pair<std::string, Tensor>> pairs_state(const LoraPairs& pairs, Dtype dtype) {
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const Group& group : by_site(pairs)) {
    const std::vector<Piece> all = pieces(group, true);
    const int64_t rank = all.back().row + all.back().A.rows();
    Tensor a = Tensor::zeros({rank, all[0].A.cols()}, dtype), b = Tensor::zeros({out_rows(group), rank}, dtype);
    for (const Piece& piece : all) {
      a.row_range(piece.row, piece.A.rows()).copy_from(piece.A);
      Tensor to = part_of(b, piece);
      to.copy_from(piece.B);
      if (piece.origin) to.scale(-1);
    }
    tensors.emplace_back(keys_of(group).A, a);
    tensors.emplace_back(keys_of(group).B, b);
  }
  return tensors;
}

std::vector<std::pair<std::string, Tensor>> Lora::state() const {
  std::vector<std::pair<std::string, Tensor>> tensors = pairs_state(adapters_, dtype_);
  // A magnitude per row of the whole site; rows outside slices keep their own length.
  const nn::Site* last = nullptr;
  for (const auto& magnitude : magnitudes_) {
    const nn::Target& t = magnitude->target();
    if (t.site != last)
      tensors.emplace_back(io::peft_key(t.site->path, "lora_magnitude_vector"),
                           row_norms(*t.site, 0, t.site->shape[0], dtype_));
    last = t.site;
    tensors.back().second.row_range(t.begin(), t.size()).copy_from(magnitude->magnitude().value());
  }
  return tensors;
}

void load_pairs(const LoraPairs& pairs, const std::vector<std::pair<std::string, Tensor>>& tensors) {
  for (const Group& group : by_site(pairs)) {
    const Keys keys = keys_of(group);
    // A peer keeps the trained pair alone; then the origin is what was taken from the base at attach().
    const auto at = std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.first == keys.A; });
    const bool alone = at != tensors.end() && at->second.rank() == 2 && at->second.dim(0) == total_rank(group);
    const std::vector<Piece> all = pieces(group, !alone);
    const int64_t rank = all.back().row + all.back().A.rows();
    const Tensor a = stored_tensor(tensors, keys.A, {rank, all[0].A.cols()});
    const Tensor b = stored_tensor(tensors, keys.B, {out_rows(group), rank});
    for (const Piece& piece : all) {
      Tensor A = piece.A, B = piece.B;
      A.copy_from(a.row_range(piece.row, A.rows()));
      B.copy_from(part_of(b, piece));
      if (piece.origin) B.scale(-1);
    }
    for (const auto& adapter : group) {
      if (adapter->has_origin()) adapter->origin_changed();
    }
  }
}

void Lora::load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) {
  if (config_.init_lora_weights == "eva" && config_.eva_rho > 1) adopt_ranks(tensors);
  load_pairs(adapters_, tensors);
  for (const auto& magnitude : magnitudes_) {
    const nn::Target& t = magnitude->target();
    const Tensor m = stored_tensor(tensors, io::peft_key(t.site->path, "lora_magnitude_vector"), {t.site->shape[0]});
    Tensor to = magnitude->magnitude().value();
    to.copy_from(m.row_range(t.begin(), t.size()));
    magnitude->changed();
  }
}

std::vector<MethodOptions> Lora::from_peft(const Json& config, const std::string& where) {
  if (text_in(config, "bias", where, "none") != "none")
    usage_error(where, ": bias is not \"none\"; trained biases are not supported yet");
  refuse_set(config,
             {"target_parameters", "trainable_token_indices", "layer_replication", "layers_to_transform",
              "exclude_modules", "lora_bias", "use_qalora", "use_bdlora", "alora_invocation_tokens", "kasa_config",
              "velora_config", "monteclora_config", "modules_to_save"},
             where);
  if (!config.contains("target_modules")) usage_error(where, ": target_modules is missing");
  Json options = taken(config, {"r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "target_modules",
                                "rank_pattern", "alpha_pattern"});
  // Only these change the base; how other pairs were drawn no longer matters.
  const Json init = config.value("init_lora_weights", Json(true));
  const std::string word = init.is_string() ? init.get<std::string>() : "";
  if (word.rfind("pissa", 0) == 0 || word == "olora") options["init_lora_weights"] = word;
  if (word == "corda" || word == "lora_ga" || word == "loftq")
    usage_error(where, ": init_lora_weights is ", word, ", which changes the base in ways this version cannot repeat");
  return {{LoraConfig::kName, options}};
}

// What PEFT must be told of each site: its rank and the alpha that gives its scale.
Json pairs_config(const LoraPairs& pairs, const LoraConfig& config) {
  Json ranks = Json::object(), alphas = Json::object(), modules = Json::array();
  for (const Group& group : by_site(pairs)) {
    const nn::Site& site = *group[0]->target().site;
    const std::string& path = site.path;
    if (site.kind == nn::SiteKind::kConv || site.kind == nn::SiteKind::kParam)
      usage_error("PEFT's LoRA has no low-rank change of ", path, " as a matrix");
    const int64_t rank = total_rank(group) * (group[0]->has_origin() ? 2 : 1);
    const double scale = group[0]->scale();
    for (const auto& adapter : group) {
      if (adapter->scale() != scale)
        usage_error("lora: slices of ", path, " have scales ", scale, " and ", adapter->scale(),
                    "; PEFT's form holds one per module: give them equal lora_alpha / r");
    }
    const double divisor = config.use_rslora ? std::sqrt(static_cast<double>(rank)) : static_cast<double>(rank);
    modules.push_back(path);
    if (rank != config.r) ranks[path] = rank;
    if (scale * divisor != config.lora_alpha) alphas[path] = json_number(scale * divisor);
  }
  Json json = peft_base(Lora::kPeftType);
  json.update({{"r", config.r},
               {"lora_alpha", json_number(config.lora_alpha)},
               {"lora_dropout", config.lora_dropout},
               {"use_rslora", config.use_rslora},
               {"use_dora", config.use_dora},
               {"target_modules", modules},
               {"rank_pattern", ranks},
               {"alpha_pattern", alphas},
               {"bias", "none"},
               {"fan_in_fan_out", false},
               {"init_lora_weights", config.init_lora_weights == "gaussian" ? Json("gaussian") : Json(true)},
               {"modules_to_save", nullptr}});
  return json;
}

Json Lora::peft_config() const { return pairs_config(adapters_, config_); }

}  // namespace molt::peft
