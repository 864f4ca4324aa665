// Mamba-1: transformers' MambaForCausalLM directories and the original state-spaces layout.
#include <cmath>

#include "molt/base/rng.h"
#include "molt/models/config_reader.h"
#include "molt/models/family.h"
#include "molt/models/gguf_form.h"

namespace molt::models {
namespace {

constexpr int64_t kMostLayers = 4096, kMostExpand = 64;

bool is_original(const Json& config) { return config.contains("d_model") && config.contains("n_layer"); }

bool recognises(const Json& config) {
  if (!config.is_object()) return false;
  if (config.value("model_type", Json()) == "mamba") return true;
  if (!is_original(config)) return false;
  const Json ssm = config.value("ssm_cfg", Json::object());
  return !ssm.is_object() || !ssm.contains("layer") || ssm["layer"] == "Mamba1";
}

int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

nn::LanguageModelPlan plan_original(const Json& config, const std::string& where) {
  const ConfigReader read(config, where);
  nn::LanguageModelPlan plan;
  plan.family = "mamba";
  plan.d_model = read.integer("d_model");
  plan.vocabulary = round_up(read.integer("vocab_size"), read.integer_or("pad_vocab_size_multiple", 8));
  plan.tied_head = read.flag_or("tie_embeddings", true);
  if (!read.flag_or("rms_norm", true)) usage_error(where, ": rms_norm is false; Mamba with LayerNorm is not supported");
  if (config.contains("attn_layer_idx") && !config["attn_layer_idx"].empty())
    usage_error(where, ": attn_layer_idx names attention layers; only pure Mamba checkpoints of this layout are read");
  if (read.integer_or("d_intermediate", 0, 0) != 0)
    usage_error(where, ": d_intermediate is not 0; Mamba with MLP layers is not supported");
  const Json empty = Json::object();
  const ConfigReader ssm(config.contains("ssm_cfg") && config["ssm_cfg"].is_object() ? config["ssm_cfg"] : empty,
                         where + ": ssm_cfg");
  nn::MambaConfig mixer;
  mixer.d_model = plan.d_model;
  mixer.d_inner = ssm.integer_or("expand", 2, 1, kMostExpand) * plan.d_model;
  mixer.d_state = ssm.integer_or("d_state", 16);
  mixer.d_conv = ssm.integer_or("d_conv", 4);
  mixer.dt_rank =
      ssm.has("dt_rank") && ssm.raw("dt_rank").is_number() ? ssm.integer("dt_rank") : (plan.d_model + 15) / 16;
  mixer.conv_bias = ssm.flag_or("conv_bias", true);
  mixer.proj_bias = ssm.flag_or("bias", false);
  plan.layers.assign(static_cast<size_t>(read.integer("n_layer", 1, kMostLayers)), {mixer});
  return plan;
}

nn::LanguageModelPlan plan(const Json& config, const std::string& where) {
  if (config.value("model_type", Json()) != "mamba") return plan_original(config, where);
  const ConfigReader read(config, where);
  nn::LanguageModelPlan plan;
  plan.family = "mamba";
  plan.d_model = read.integer("hidden_size");
  plan.vocabulary = read.integer("vocab_size");
  plan.norm_eps = read.number_or("layer_norm_epsilon", 1e-5);
  if (!(plan.norm_eps >= 0 && plan.norm_eps <= 1))
    usage_error(where, ": layer_norm_epsilon must be from 0 to 1, is ", plan.norm_eps);
  plan.tied_head = read.flag_or("tie_word_embeddings", true);
  const std::string activation = read.text_or("hidden_act", "silu");
  if (activation != "silu") usage_error(where, ": hidden_act is '", activation, "'; only silu is supported");
  nn::MambaConfig mixer;
  mixer.d_model = plan.d_model;
  mixer.d_inner = read.integer_or("intermediate_size", read.integer_or("expand", 2, 1, kMostExpand) * plan.d_model);
  mixer.d_state = read.integer_or("state_size", 16);
  mixer.d_conv = read.integer_or("conv_kernel", 4);
  const bool automatic = !read.has("time_step_rank") || read.raw("time_step_rank") == "auto";
  mixer.dt_rank = automatic ? (plan.d_model + 15) / 16 : read.integer("time_step_rank");
  mixer.conv_bias = read.flag_or("use_conv_bias", true);
  mixer.proj_bias = read.flag_or("use_bias", false);
  plan.layers.assign(static_cast<size_t>(read.integer("num_hidden_layers", 1, kMostLayers)), {mixer});
  return plan;
}

std::vector<std::string> aliases(const std::string& path) {
  if (path == "backbone.embeddings.weight") return {"backbone.embedding.weight"};
  return {};
}

Json config(const nn::LanguageModelPlan& plan) {
  const nn::MambaConfig& m = plan.layers.at(0).mixer;
  return {{"architectures", {"MambaForCausalLM"}},
          {"model_type", "mamba"},
          {"vocab_size", plan.vocabulary},
          {"hidden_size", plan.d_model},
          {"intermediate_size", m.d_inner},
          {"expand", m.d_inner / plan.d_model},
          {"state_size", m.d_state},
          {"num_hidden_layers", plan.layers.size()},
          {"conv_kernel", m.d_conv},
          {"time_step_rank", m.dt_rank},
          {"layer_norm_epsilon", plan.norm_eps},
          {"use_bias", m.proj_bias},
          {"use_conv_bias", m.conv_bias},
          {"hidden_act", "silu"},
          {"tie_word_embeddings", plan.tied_head},
          {"residual_in_fp32", true},
          {"bos_token_id", 0},
          {"eos_token_id", 0},
          {"pad_token_id", 0}};
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// The reference's initialisation (mamba_ssm's Mamba module and transformers' MambaPreTrainedModel): S4D-real A, D of
// ones, time steps log-uniform in [1e-3, 0.1], torch's default for linears, out_proj divided by sqrt(layers),
// embeddings N(0, 0.02²).
Tensor initial(const nn::Parameter& p, const nn::LanguageModelPlan& plan, uint64_t seed) {
  Tensor t = Tensor::empty(p.shape, Dtype::kF32);
  float* out = t.data<float>();
  const Rng rng(seed, p.path);
  const int64_t n = t.numel(), width = t.cols();
  auto uniform = [&](double bound) {
    for (int64_t i = 0; i < n; ++i)
      out[i] = static_cast<float>((2 * rng.uniform(static_cast<uint64_t>(i)) - 1) * bound);
  };
  if (ends_with(p.path, "A_log")) {
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(std::log(static_cast<double>(i % width + 1)));
  } else if (ends_with(p.path, ".D") || ends_with(p.path, "norm.weight") || ends_with(p.path, "norm_f.weight")) {
    t.fill(1);
  } else if (ends_with(p.path, "dt_proj.bias")) {
    constexpr double kLeast = 1e-3, kMost = 0.1, kFloor = 1e-4;
    for (int64_t i = 0; i < n; ++i) {
      const double u = rng.uniform(static_cast<uint64_t>(i));
      const double dt = std::max(std::exp(u * (std::log(kMost) - std::log(kLeast)) + std::log(kLeast)), kFloor);
      out[i] = static_cast<float>(dt + std::log(-std::expm1(-dt)));  // softplus of this is dt
    }
  } else if (ends_with(p.path, "dt_proj.weight")) {
    uniform(1 / std::sqrt(static_cast<double>(width)));
  } else if (ends_with(p.path, "bias")) {
    t.fill(0);
  } else if (ends_with(p.path, "embeddings.weight") || ends_with(p.path, "lm_head.weight")) {
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(0.02 * rng.normal(static_cast<uint64_t>(i)));
  } else {
    uniform(1 / std::sqrt(static_cast<double>(width)));
    if (ends_with(p.path, "out_proj.weight")) t.scale(1 / std::sqrt(static_cast<double>(plan.layers.size())));
  }
  return t;
}

}  // namespace

const Family kMamba = {"mamba", recognises, plan, aliases, config, initial, &kMambaGguf};

}  // namespace molt::models
