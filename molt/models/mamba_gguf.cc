// Mamba-1 in GGUF, as llama.cpp's architecture "mamba" loads it.
#include <cmath>
#include <cstdlib>

#include "molt/base/error.h"
#include "molt/models/gguf_form.h"

namespace molt::models {
namespace {

struct Name {
  const char* ours;
  const char* gguf;
};
constexpr Name kWhole[] = {{"backbone.embeddings.weight", "token_embd.weight"},
                           {"backbone.norm_f.weight", "output_norm.weight"},
                           {"lm_head.weight", "output.weight"}};
constexpr Name kInLayer[] = {{"norm.weight", "attn_norm.weight"},
                             {"mixer.in_proj.weight", "ssm_in.weight"},
                             {"mixer.conv1d.weight", "ssm_conv1d.weight"},
                             {"mixer.conv1d.bias", "ssm_conv1d.bias"},
                             {"mixer.x_proj.weight", "ssm_x.weight"},
                             {"mixer.dt_proj.weight", "ssm_dt.weight"},
                             {"mixer.dt_proj.bias", "ssm_dt.bias"},
                             {"mixer.A_log", "ssm_a"},
                             {"mixer.D", "ssm_d"},
                             {"mixer.out_proj.weight", "ssm_out.weight"}};
constexpr const char* kOurLayers = "backbone.layers.";
constexpr const char* kGgufLayers = "blk.";

/// The name behind "PREFIX" and a number, with the number; nothing where it does not begin so.
bool in_layer(const std::string& name, const std::string& prefix, std::string& number, std::string& rest) {
  if (name.compare(0, prefix.size(), prefix) != 0) return false;
  const size_t end = name.find_first_not_of("0123456789", prefix.size());
  if (end == std::string::npos || end == prefix.size() || name[end] != '.') return false;
  number = name.substr(prefix.size(), end - prefix.size());
  rest = name.substr(end + 1);
  return true;
}

std::string translated(const std::string& name, const char* Name::*from, const char* Name::*to,
                       const std::string& layers, const std::string& other_layers) {
  for (const Name& n : kWhole) {
    if (name == n.*from) return n.*to;
  }
  std::string number, rest;
  if (!in_layer(name, layers, number, rest)) return "";
  for (const Name& n : kInLayer) {
    if (rest == n.*from) return str(other_layers, number, ".", n.*to);
  }
  return "";
}

std::string tensor(const std::string& path) {
  return translated(path, &Name::ours, &Name::gguf, kOurLayers, kGgufLayers);
}

std::string parameter(const std::string& name) {
  return translated(name, &Name::gguf, &Name::ours, kGgufLayers, kOurLayers);
}

io::GgufMetadata metadata(const nn::LanguageModelPlan& plan, const std::string& where) {
  const nn::MambaConfig& m = plan.layers.at(0).mixer;
  if (m.d_inner != 2 * plan.d_model)
    usage_error(where, ": its inner width is ", m.d_inner, "; llama.cpp loads Mamba only where it is twice the width (",
                2 * plan.d_model, ")");
  if (m.proj_bias) usage_error(where, ": in_proj and out_proj have biases (use_bias), which llama.cpp's Mamba has not");
  const auto u32 = [](int64_t n) { return io::GgufValue::u32(n); };
  constexpr int64_t kContext = 1 << 20;  // there is no limit; what llama.cpp's own converter writes
  return {{"mamba.context_length", u32(kContext)},
          {"mamba.embedding_length", u32(plan.d_model)},
          {"mamba.feed_forward_length", u32(0)},
          {"mamba.attention.head_count", u32(0)},
          {"mamba.block_count", u32(static_cast<int64_t>(plan.layers.size()))},
          {"mamba.ssm.conv_kernel", u32(m.d_conv)},
          {"mamba.ssm.inner_size", u32(m.d_inner)},
          {"mamba.ssm.state_size", u32(m.d_state)},
          {"mamba.ssm.time_step_rank", u32(m.dt_rank)},
          {"mamba.attention.layer_norm_rms_epsilon", io::GgufValue::f32(plan.norm_eps)},
          {"mamba.ssm.dt_b_c_rms", io::GgufValue::flag(false)},
          {"mamba.vocab_size", u32(plan.vocabulary)}};
}

// The format keeps A itself, not its logarithm.
Tensor values(const std::string& path, const Tensor& given) {
  const std::string end = ".A_log";
  if (path.size() < end.size() || path.compare(path.size() - end.size(), end.size(), end) != 0) return given;
  const Tensor a = given.clone();
  for (int64_t i = 0; i < a.numel(); ++i)
    a.data<float>()[i] = static_cast<float>(-std::exp(static_cast<double>(a.data<float>()[i])));
  return a;
}

io::NamedTensors missing(const nn::LanguageModelPlan& plan) {
  io::NamedTensors tensors;
  for (size_t i = 0; i < plan.layers.size(); ++i) {
    const nn::MambaConfig& m = plan.layers[i].mixer;
    if (!m.conv_bias)
      tensors.emplace_back(str(kGgufLayers, i, ".ssm_conv1d.bias"), Tensor::zeros({m.d_inner}, Dtype::kF32));
  }
  return tensors;
}

}  // namespace

const GgufForm kMambaGguf = {"mamba", tensor, parameter, metadata, values, missing};

}  // namespace molt::models
