#include "molt/peft/lora.h"

#include <algorithm>
#include <cmath>
#include <regex>

#include "molt/base/error.h"
#include "molt/peft/activation_pca.h"
#include "molt/peft/lora_adapter.h"
#include "molt/peft/patterns.h"
#include "molt/peft/sizes.h"
#include "molt/peft/targets.h"

namespace molt::peft {
Lora::Lora(LoraConfig config, uint64_t seed, Dtype dtype) : Configured(std::move(config)), seed_(seed), dtype_(dtype) {
  check_size("lora: r", config_.r);
  if (!(config_.lora_alpha > 0)) usage_error("lora: lora_alpha must be above 0, is ", config_.lora_alpha);
  if (!(config_.lora_dropout >= 0 && config_.lora_dropout < 1))
    usage_error("lora: lora_dropout must be in [0, 1), is ", config_.lora_dropout);
  if (!(config_.loraplus_lr_ratio > 0))
    usage_error("lora: loraplus_lr_ratio must be above 0, is ", config_.loraplus_lr_ratio);
  if (config_.eva_batches < 1) usage_error("lora: eva_batches must be at least 1, is ", config_.eva_batches);
  if (!(config_.eva_rho >= 1)) usage_error("lora: eva_rho must be at least 1, is ", config_.eva_rho);
  if (config_.alternate < 0) usage_error("lora: alternate must not be negative, is ", config_.alternate);
  const std::string& init = config_.init_lora_weights;
  if (!std::regex_match(init, std::regex("true|gaussian|pissa(_niter_[0-9]{1,4})?|olora|loftq|eva")))
    usage_error("lora: init_lora_weights must be true, gaussian, pissa, pissa_niter_N, olora, loftq or eva, is '", init,
                "'");
}

Lora::~Lora() = default;

std::vector<nn::Target> Lora::find_targets(const nn::SiteTable& sites) const {
  using Kind = nn::SiteKind;
  return resolve_targets(sites, config_.target_modules, {Kind::kLinear, Kind::kEmbedding, Kind::kConv, Kind::kParam});
}

void Lora::declare(const nn::SiteTable& sites, nn::ParameterTable& parameters) {
  if (config_.init_lora_weights != "loftq") return;
  for (const nn::Target& target : find_targets(sites)) {
    for (nn::Parameter& p : parameters) {
      if (&p == target.site->parameter) p.keep_source = true;
    }
  }
}

void Lora::attach(const nn::SiteTable& sites) {
  targets_ = find_targets(sites);
  for (const nn::Target& target : targets_) {
    if (config_.init_lora_weights == "eva" && target.site->kind != nn::SiteKind::kLinear)
      usage_error("init_lora_weights: eva takes its values from a linear's input; ", target.site->path, " is a ",
                  nn::site_kind_name(target.site->kind));
    const int64_t rank = configured_rank(*target.site);
    check_size("rank_pattern: rank", rank);
  }
  place_pairs();
  coverage_ = peft::coverage(sites, targets_);
}

void Lora::require_effect() const {
  const auto check = [&](const auto& patterns, const char* option) {
    for (const auto& pattern : patterns) {
      const std::string& key = pattern.first;
      const auto matches = [&](const nn::Target& t) { return pattern_matches(key, t.site->path, option); };
      if (std::none_of(targets_.begin(), targets_.end(), matches))
        usage_error(option, ": '", key, "' matches no target; they are such as ", targets_[0].site->path);
    }
  };
  check(config_.rank_pattern, "rank_pattern");
  check(config_.alpha_pattern, "alpha_pattern");
}

int64_t Lora::configured_rank(const nn::Site& site) const {
  return patterned(config_.rank_pattern, site.path, config_.r, "rank_pattern");
}

double Lora::configured_alpha(const nn::Site& site) const {
  return patterned(config_.alpha_pattern, site.path, config_.lora_alpha, "alpha_pattern");
}

// Where a rank was moved, alpha moves along (PEFT's adjust_scaling_factors): alpha / r stays.
void Lora::place_pairs(const Ranks& ranks) {
  adapters_.clear();
  magnitudes_.clear();
  moved_ = !ranks.empty();
  for (const nn::Target& target : targets_) {
    const int64_t own = configured_rank(*target.site), rank = moved_ ? ranks.at(target.site) : own;
    if (rank == 0) continue;
    const double alpha = configured_alpha(*target.site) * (static_cast<double>(rank) / static_cast<double>(own));
    const double divisor = config_.use_rslora ? std::sqrt(static_cast<double>(rank)) : static_cast<double>(rank);
    adapters_.push_back(std::make_shared<LoraAdapter>(target, PairOptions{.rank = rank,
                                                                          .scale = alpha / divisor,
                                                                          .dropout = config_.lora_dropout,
                                                                          .b_lr_scale = config_.loraplus_lr_ratio,
                                                                          .alternate = config_.alternate,
                                                                          .init = config_.init_lora_weights,
                                                                          .seed = seed_,
                                                                          .dtype = dtype_}));
    if (config_.use_dora) magnitudes_.push_back(std::make_shared<DoraMagnitude>(adapters_.back(), dtype_));
  }
}

void Lora::bind(nn::EditSet& edits) const {
  for (const auto& adapter : adapters_) edits.add(*adapter->target().site, adapter);
  for (const auto& magnitude : magnitudes_) edits.add(*magnitude->target().site, magnitude);
}

void Lora::begin_phase(int phase) {
  if (phase == 0) return;
  if (moved_) place_pairs();
  for (const auto& adapter : adapters_) adapter->reset();
  for (const auto& magnitude : magnitudes_) magnitude->reset();
}

void Lora::after_step() {
  for (const auto& magnitude : magnitudes_) magnitude->changed();
}

int64_t Lora::trainable_count() const {
  int64_t count = 0;
  for (const auto& adapter : adapters_) count += adapter->A().value().numel() + adapter->B().value().numel();
  for (const auto& magnitude : magnitudes_) count += magnitude->magnitude().value().numel();
  return count;
}

}  // namespace molt::peft
