#include "molt/io/fingerprint.h"

#include <cstdio>
#include <set>

namespace molt::io {
namespace {

constexpr const char* kVersion = "m1-";
constexpr size_t kWhole = 4096, kPieces = 8, kPiece = kWhole / kPieces;

/// Entries of config.json that change the result and show neither in the tensors' names (layer kinds, biases, a
/// separate head) nor in their shapes. What only training reads, and what transformers adds to files it did not write,
/// is left out.
constexpr const char* kConfigKeys[] = {
    "activation_function",
    "attention_multiplier",
    "embedding_multiplier",
    "head_dim",
    "hidden_act",
    "key_multiplier",
    "layer_norm_epsilon",
    "lm_head_multiplier",
    "logits_scaling",
    "mamba_d_head",
    "mamba_n_groups",
    "mamba_n_heads",
    "mixer_rms_eps",
    "mlp_multipliers",
    "model_type",
    "n_groups",
    "norm_before_gate",
    "num_attention_heads",
    "num_experts_per_tok",
    "num_heads",
    "num_key_value_heads",
    "residual_multiplier",
    "rms_norm",
    "rms_norm_eps",
    "rope_theta",
    "ssm_cfg",
    "ssm_in_multiplier",
    "ssm_multipliers",
    "ssm_out_multiplier",
    "time_step_limit",
};

/// A JSON value, with numbers as doubles: 1 and 1.0 are the same.
void add_json(Fnv1a& hash, const Json& value) {
  if (value.is_number()) {
    hash.number(1);
    hash.number(std::bit_cast<uint64_t>(value.get<double>() + 0.0));  // -0 becomes 0
  } else if (value.is_array()) {
    hash.number(2);
    hash.number(value.size());
    for (const Json& item : value) add_json(hash, item);
  } else if (value.is_object()) {
    hash.number(3);
    hash.number(value.size());
    for (const auto& [key, item] : value.items()) {
      hash.text(key);
      add_json(hash, item);
    }
  } else {
    hash.number(4);
    hash.text(value.dump());
  }
}

void add_heading(Fnv1a& hash, const FileDtype& dtype, const Shape& shape) {
  hash.text(dtype.word);
  hash.number(shape.size());
  for (const int64_t d : shape) hash.number(static_cast<uint64_t>(d));
}

}  // namespace

uint64_t tensor_fingerprint(const Tensor& tensor) {
  Fnv1a hash;
  add_heading(hash, file_dtype(tensor.dtype()), tensor.shape());
  const Tensor dense = tensor.contiguous() ? tensor : tensor.clone();
  const char* data = static_cast<const char*>(dense.raw());
  const size_t size = dense.bytes();
  if (size <= kWhole) {
    hash.bytes(data, size);
  } else {
    for (size_t i = 0; i < kPieces; ++i) hash.bytes(data + i * (size - kPiece) / (kPieces - 1), kPiece);
  }
  return hash.value();
}

std::string base_fingerprint(const Checkpoint& checkpoint) {
  Fnv1a hash;
  if (checkpoint.has_config()) {
    for (const char* key : kConfigKeys) {
      const auto it = checkpoint.config().find(key);
      if (it == checkpoint.config().end() || it->is_null()) continue;
      hash.text(key);
      add_json(hash, *it);
    }
  }
  const std::string head = "lm_head.weight";
  std::map<std::string, uint64_t> tensors;
  std::multiset<uint64_t> seen;
  for (const std::string& name : checkpoint.names()) {
    const TensorInfo info = checkpoint.info(name);
    uint64_t content;
    if (info.dtype->dtype) {
      content = tensor_fingerprint(checkpoint.tensor(name));
      checkpoint.release();  // a system may map far more around a few bytes than was read
    } else {
      Fnv1a heading;
      add_heading(heading, *info.dtype, info.shape);
      content = heading.value();
    }
    tensors.emplace(name, content);
    seen.insert(content);
  }
  for (const auto& [name, content] : tensors) {
    if (name == head && seen.count(content) > 1) continue;
    hash.text(name);
    hash.number(content);
  }
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(hash.value()));
  return str(kVersion, digits);
}

}  // namespace molt::io
