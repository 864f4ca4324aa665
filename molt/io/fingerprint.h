// A short name for the numbers of a base model, so that an adapter can tell whether it stands on the base it was
// trained on. It depends on content only: the same weights give the same fingerprint from one safetensors file, from
// shards and from pytorch_model.bin. It finds accidents (another size, another model, a fine-tuned or converted copy),
// not attacks.
#pragma once

#include <cstdint>
#include <string>

#include "molt/io/checkpoint.h"

namespace molt::io {

/// 64-bit FNV-1a (Fowler, Noll, Vo): hash = (hash ^ byte) * 1099511628211 for each byte.
class Fnv1a {
 public:
  void bytes(const void* data, size_t size) {
    const auto* at = static_cast<const unsigned char*>(data);
    for (size_t i = 0; i < size; ++i) hash_ = (hash_ ^ at[i]) * 1099511628211ull;
  }
  /// Eight bytes, lowest first.
  void number(uint64_t n) {
    for (int i = 0; i < 8; ++i) hash_ = (hash_ ^ (n >> (8 * i) & 0xff)) * 1099511628211ull;
  }
  /// The length, then the bytes, so that neighbours cannot run into each other.
  void text(std::string_view text) {
    number(text.size());
    bytes(text.data(), text.size());
  }
  uint64_t value() const { return hash_; }

 private:
  uint64_t hash_ = 14695981039346656037ull;
};

/// Hash of a tensor: its dtype's word, its shape, and of its dense little-endian bytes all (up to 4096) or eight pieces
/// of 512 at i * (size - 512) / 7, rounded down. A change between the pieces goes unseen; training moves every element.
uint64_t tensor_fingerprint(const Tensor& tensor);

/// "m1-" and 16 hex digits: FNV-1a over the config entries that change what the model computes and do not show in its
/// tensors' names and shapes (family, norm epsilon, activation, head counts, multipliers, …), then, by name, every
/// tensor's name and hash. A head that equals another tensor is left out, because a tied head is stored in some layouts
/// and not in others. Tensors of a dtype Molt does not compute with count by name, dtype and shape. Reads at most 4 KB
/// per tensor.
std::string base_fingerprint(const Checkpoint& checkpoint);

}  // namespace molt::io
