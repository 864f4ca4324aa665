#include "molt/io/tensor_file.h"

#include "molt/io/mapped_file.h"

namespace molt::io {
namespace {

// In the order of safetensors' own enumeration: its writer sorts tensors by it, widest first.
constexpr FileDtype kFileDtypes[] = {
    {"BOOL", 8, {}},
    {"F4", 4, {}},
    {"F6_E2M3", 6, {}},
    {"F6_E3M2", 6, {}},
    {"U8", 8, Dtype::kU8},
    {"I8", 8, Dtype::kI8},
    {"F8_E5M2", 8, {}},
    {"F8_E4M3", 8, {}},
    {"F8_E8M0", 8, {}},
    {"F8_E4M3FNUZ", 8, {}},
    {"F8_E5M2FNUZ", 8, {}},
    {"I16", 16, {}},
    {"U16", 16, {}},
    {"F16", 16, Dtype::kF16},
    {"BF16", 16, Dtype::kBf16},
    {"I32", 32, Dtype::kI32},
    {"U32", 32, {}},
    {"F32", 32, Dtype::kF32},
    {"C64", 64, {}},
    {"F64", 64, Dtype::kF64},
    {"I64", 64, Dtype::kI64},
    {"U64", 64, {}},
};

}  // namespace

const FileDtype* find_file_dtype(std::string_view word) {
  for (const FileDtype& entry : kFileDtypes) {
    if (word == entry.word) return &entry;
  }
  return nullptr;
}

const FileDtype& file_dtype(Dtype dtype) {
  for (const FileDtype& entry : kFileDtypes) {
    if (entry.dtype == dtype) return entry;
  }
  MOLT_CHECK(false, "tensor_file: no file dtype for ", dtype_name(dtype));
  return kFileDtypes[0];
}

std::optional<uint64_t> dense_bytes(const Shape& shape, const FileDtype& dtype) {
  constexpr int64_t kMost = INT64_MAX / 64;  // so that bits fit as well
  int64_t nonzero = 1;
  bool empty = false;
  for (const int64_t d : shape) {
    if (d < 0) return {};
    if (d == 0) {
      empty = true;
    } else if (nonzero > kMost / d) {
      return {};
    } else {
      nonzero *= d;
    }
  }
  const uint64_t bits = empty ? 0 : static_cast<uint64_t>(nonzero) * static_cast<uint64_t>(dtype.bits);
  if (bits % 8 != 0) return {};
  return bits / 8;
}

Dtype TensorFile::readable(const std::string& name, const FileDtype& dtype) const {
  if (!dtype.dtype) {
    usage_error(path(), ": tensor ", in_quotes(name), " is ", dtype.word,
                "; expected one of F32, BF16, F16, F64, I64, I32, I8, U8; convert it first");
  }
  return *dtype.dtype;
}

void TensorFile::no_such_tensor(const std::string& name) const {
  usage_error(path(), ": has no tensor ", in_quotes(name));
}

}  // namespace molt::io
