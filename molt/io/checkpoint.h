// A base model on disk: a local directory in Hugging Face's layout, whatever file format and however many files.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "molt/base/json.h"
#include "molt/io/tensor_file.h"

namespace molt::io {

/// Reads a JSON file that Python wrote: like read_json_file, but Infinity, -Infinity and NaN, which Python writes and
/// JSON does not know, become the largest double, the smallest, and null; so do {"__float__": "Infinity"} and its like.
Json read_python_json(const std::string& path);

class Checkpoint {
 public:
  /// Opens the first of these that `directory` holds, as transformers does: model.safetensors or
  /// model.safetensors.index.json with its shards, pytorch_model.bin or pytorch_model.bin.index.json with its shards.
  /// Every file is mapped and checked, no tensor is read. Throws UsageError: not a local directory (a hub name, a
  /// file), nothing to open, a single file beside an index, a shard or an indexed tensor that is missing.
  explicit Checkpoint(const std::string& directory);

  const std::string& directory() const { return directory_; }
  /// The tensor files, in the order of their names.
  std::vector<std::string> files() const;

  /// Every tensor, sorted by name, those that a shard holds but the index forgets included.
  std::vector<std::string> names() const;
  bool has(const std::string& name) const { return where_.count(name) > 0; }
  /// Both throw UsageError naming directory and tensor when there is no such tensor.
  TensorInfo info(const std::string& name) const;
  /// A view of the mapped file where possible; valid after the checkpoint is gone.
  Tensor tensor(const std::string& name) const;
  /// What has been read of the files need not stay in memory; it is read again when it is looked at.
  void release() const;

  bool has_config() const { return config_.has_value(); }
  /// config.json, an object. Throws UsageError when the directory has none.
  const Json& config() const;

 private:
  void open_single(const std::string& file);
  void open_sharded(const std::string& index);
  const TensorFile& file_of(const std::string& name) const;

  std::string directory_;
  std::vector<std::unique_ptr<TensorFile>> files_;
  std::map<std::string, const TensorFile*> where_;
  std::optional<Json> config_;
};

/// A file of tensors by its name: .safetensors, or a torch.save file otherwise.
std::unique_ptr<TensorFile> open_tensor_file(const std::string& path);

}  // namespace molt::io
