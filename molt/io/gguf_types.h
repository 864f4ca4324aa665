// The numbers that GGUF has for types of tensors. For the reader and the writer of that format.
#pragma once

#include <cstdint>

#include "molt/io/tensor_file.h"

namespace molt::io {

constexpr char kGgufMagic[4] = {'G', 'G', 'U', 'F'};
constexpr uint64_t kGgufAlignment = 32;  // where a file does not say
constexpr int kGgufMaxDims = 4;

/// A tensor type of ggml: so many elements stand in a block of so many bytes.
struct GgmlType {
  uint32_t code;
  int64_t block, bytes;
  FileDtype dtype;  ///< bits: of one element where a block is one, else 0
};

/// The type of a number, null for an unknown one.
const GgmlType* find_ggml_type(uint32_t code);
/// The type ggml has for one of ours, or null.
const GgmlType* ggml_type_of(Dtype dtype);

}  // namespace molt::io
