// The writer of molt/io/gguf.h.
#include <cstring>
#include <set>

#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/io/dense.h"
#include "molt/io/gguf.h"
#include "molt/io/gguf_types.h"

namespace molt::io {
namespace {

constexpr uint32_t kVersion = 3;
constexpr size_t kMaxTensorName = 63;  // GGML_MAX_NAME with its final zero

template <class T>
void put(std::string& out, T value) {
  char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  out.append(bytes, sizeof value);
}

void put_text(std::string& out, const std::string& text) {
  put(out, static_cast<uint64_t>(text.size()));
  out += text;
}

void put_integer(std::string& out, GgufType type, int64_t value) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool:
      return put(out, static_cast<uint8_t>(value));
    case GgufType::kU16:
    case GgufType::kI16:
      return put(out, static_cast<uint16_t>(value));
    case GgufType::kU32:
    case GgufType::kI32:
      return put(out, static_cast<uint32_t>(value));
    default:
      return put(out, value);
  }
}

void put_value(std::string& out, const GgufValue& value) {
  if (value.list) put(out, static_cast<uint32_t>(GgufType::kArray));
  put(out, static_cast<uint32_t>(value.type));
  if (value.list) put(out, static_cast<uint64_t>(value.size()));
  MOLT_CHECK(value.list || value.size() == 1, "write_gguf: a value that is no list has ", value.size(), " elements");
  for (const int64_t n : value.integers) put_integer(out, value.type, n);
  for (const double x : value.numbers) {
    if (value.type == GgufType::kF32) {
      put(out, static_cast<float>(x));
    } else {
      put(out, x);
    }
  }
  for (const std::string& text : value.texts) put_text(out, text);
}

uint64_t aligned(uint64_t n) { return (n + kGgufAlignment - 1) / kGgufAlignment * kGgufAlignment; }

}  // namespace

void write_gguf(const std::string& path, const GgufMetadata& metadata, const NamedTensors& tensors) {
  std::string head(kGgufMagic, sizeof kGgufMagic);
  put(head, kVersion);
  put(head, static_cast<uint64_t>(tensors.size()));
  put(head, static_cast<uint64_t>(metadata.size()));
  std::set<std::string> seen;
  for (const auto& [key, value] : metadata) {
    MOLT_CHECK(seen.insert(key).second, "write_gguf: two values are called ", key);
    put_text(head, key);
    put_value(head, value);
  }
  seen.clear();
  uint64_t end = 0;
  for (const auto& [name, tensor] : tensors) {
    MOLT_CHECK(seen.insert(name).second, "write_gguf: two tensors are called ", in_quotes(name));
    if (name.empty() || name.size() > kMaxTensorName || !is_utf8(name))
      usage_error(path, ": a tensor cannot be called ", in_quotes(name), "; ggml takes 1 to ", kMaxTensorName,
                  " bytes");
    const GgmlType* const type = ggml_type_of(tensor.dtype());
    MOLT_CHECK(type && tensor.rank() >= 1 && tensor.rank() <= kGgufMaxDims, "write_gguf: ", name, " is ",
               dtype_name(tensor.dtype()), " ", shape_str(tensor.shape()));
    put_text(head, name);
    put(head, static_cast<uint32_t>(tensor.rank()));
    for (int d = tensor.rank(); d-- > 0;) put(head, static_cast<uint64_t>(tensor.dim(d)));
    put(head, type->code);
    put(head, aligned(end));
    end = aligned(end) + tensor.bytes();
  }
  head.resize(aligned(head.size()), '\0');
  require_disk_room(path, head.size() + aligned(end));
  write_file_atomic(path, [&](const ByteSink& sink) {
    static const char kZeros[kGgufAlignment] = {};
    sink(head.data(), head.size());
    for (const auto& [name, tensor] : tensors) {
      write_dense(sink, tensor);
      if (const uint64_t over = tensor.bytes() % kGgufAlignment) sink(kZeros, kGgufAlignment - over);
    }
  });
}

}  // namespace molt::io
