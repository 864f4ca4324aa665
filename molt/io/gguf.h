// GGUF, the file format of ggml and llama.cpp: a magic word, key-value metadata with types, a table of tensors, and
// their bytes, each aligned. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3.
// Goals: reading that trusts no length, count or offset; writing what llama.cpp reads. Not here: big-endian files,
// version 1, lists of lists, and computing with quantised tensors (they are listed, and refused by name when read).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "molt/io/mapped_file.h"
#include "molt/io/safetensors.h"
#include "molt/io/tensor_file.h"

namespace molt::io {

/// The types of values, by the format's numbers.
enum class GgufType : uint32_t { kU8, kI8, kU16, kI16, kU32, kI32, kF32, kBool, kString, kArray, kU64, kI64, kF64 };

/// "u32", "string", …
const char* gguf_type_name(GgufType type);

/// A value of the metadata, or a list of values of one type. Integers of any width and bools stand in `integers`.
struct GgufValue {
  GgufType type = GgufType::kU32;  ///< of the value, or of each element
  bool list = false;
  std::vector<int64_t> integers;
  std::vector<double> numbers;
  std::vector<std::string> texts;

  static GgufValue u32(int64_t value) { return {GgufType::kU32, false, {value}, {}, {}}; }
  static GgufValue f32(double value) { return {GgufType::kF32, false, {}, {value}, {}}; }
  static GgufValue flag(bool value) { return {GgufType::kBool, false, {value ? 1 : 0}, {}, {}}; }
  static GgufValue text(std::string value) { return {GgufType::kString, false, {}, {}, {std::move(value)}}; }
  static GgufValue list_of(std::vector<std::string> values) {
    return {GgufType::kString, true, {}, {}, std::move(values)};
  }
  static GgufValue list_of_i32(std::vector<int64_t> values) {
    return {GgufType::kI32, true, std::move(values), {}, {}};
  }

  size_t size() const { return integers.size() + numbers.size() + texts.size(); }
  /// A value for people: "4096", "mamba", "[4096 x string]".
  std::string str() const;
};

class GgufFile final : public TensorFile {
 public:
  /// Maps the file and checks everything but the tensors' numbers: magic, version, metadata, and that the tensors tile
  /// the data from its first byte to the end of the file, but for what alignment asks. Throws UsageError naming file
  /// and key or tensor.
  explicit GgufFile(const std::string& path);

  const std::string& path() const override { return file_->path(); }
  std::vector<std::string> names() const override;
  bool has(const std::string& name) const override { return entries_.count(name) > 0; }
  TensorInfo info(const std::string& name) const override;
  Tensor tensor(const std::string& name) const override;
  void release() const override { file_->release(); }
  /// Bytes of a tensor, quantised ones too.
  uint64_t bytes(const std::string& name) const { return entry(name).size; }

  const std::map<std::string, GgufValue>& metadata() const { return metadata_; }
  /// Single values by key. Throw UsageError where there is none or one of another type.
  std::string text(const std::string& key) const;
  double number(const std::string& key) const;

 private:
  class Cursor;
  struct Entry {
    TensorInfo info;
    uint64_t begin = 0, size = 0;  // in the file
  };
  const Entry& entry(const std::string& name) const;
  void read_metadata(Cursor& at);
  void read_entry(Cursor& at);
  void check_layout(uint64_t data, uint64_t alignment);

  std::shared_ptr<const MappedFile> file_;
  std::map<std::string, GgufValue> metadata_;
  std::map<std::string, Entry> entries_;
};

/// Metadata in the order to write.
using GgufMetadata = std::vector<std::pair<std::string, GgufValue>>;

/// Writes a version 3 file atomically, after checking that the disk has room: metadata and tensors in their order,
/// aligned to 32 bytes. Dimensions are reversed as the format wants them (a matrix (O, I) has I first). Tensors are of
/// F32, F16, BF16, F64 or integers. Throws SystemError when the disk refuses, UsageError for a name that is too long
/// for ggml.
void write_gguf(const std::string& path, const GgufMetadata& metadata, const NamedTensors& tensors);

}  // namespace molt::io
