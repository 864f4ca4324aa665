// Safetensors files: an 8-byte little-endian header length, a JSON header, then the bytes of all tensors, dense and
// row-major. https://github.com/huggingface/safetensors (format section of its README).
// Goals: zero-copy reading that trusts nothing the header says; writing that the reference reader accepts and whose
// layout is the reference writer's. Non-goal: dtypes Molt does not compute with (refused by name when read).
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "molt/io/mapped_file.h"
#include "molt/io/tensor_file.h"

namespace molt::io {

class SafetensorsFile final : public TensorFile {
 public:
  /// Maps the file and checks the whole header: length, JSON, dtypes, shapes, and that the tensors tile the data from
  /// its first byte to the end of the file without gap or overlap. Throws UsageError naming file and tensor.
  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const override { return file_->path(); }
  std::vector<std::string> names() const override;
  bool has(const std::string& name) const override { return entries_.count(name) > 0; }
  TensorInfo info(const std::string& name) const override;
  Tensor tensor(const std::string& name) const override;
  void release() const override { file_->release(); }

  /// The header's "__metadata__": {"format": "pt"} in files that transformers is to read.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  struct Entry {
    TensorInfo info;
    uint64_t begin, end;  // in the file
  };
  const Entry& entry(const std::string& name) const;

  std::shared_ptr<const MappedFile> file_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::string> metadata_;
};

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

/// Writes the file atomically, after checking that the disk has room. Tensors are stored by dtype (widest first), then
/// name, so that all are aligned; views are written densely. Names must be unique, non-empty and UTF-8. Throws
/// SystemError when the disk refuses, UsageError for a name that cannot be stored.
void write_safetensors(const std::string& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

}  // namespace molt::io
