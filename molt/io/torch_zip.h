// Files of torch.save (PyTorch 1.6 or later): pytorch_model.bin, adapter_model.bin. A zip of stored entries: data.pkl
// says which tensors are views of which storages, data/KEY holds the bytes of one storage.
// Goals: read plain state dicts without running anything. Non-goals: whole pickled models, optimizer states, the older
// format that is one bare pickle, writing.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "molt/io/mapped_file.h"
#include "molt/io/state_dict_pickle.h"
#include "molt/io/tensor_file.h"

namespace molt::io {

class TorchZipFile final : public TensorFile {
 public:
  /// Maps the file, reads its pickle, checks that every storage is there in the size the pickle says. Throws UsageError
  /// with the file and the cause.
  explicit TorchZipFile(const std::string& path);

  const std::string& path() const override { return file_->path(); }
  std::vector<std::string> names() const override;
  bool has(const std::string& name) const override { return entries_.count(name) > 0; }
  TensorInfo info(const std::string& name) const override;
  /// Dense tensors are views of the mapped file (tied ones share its bytes); transposed, sliced and expanded ones are
  /// copied.
  Tensor tensor(const std::string& name) const override;
  void release() const override { file_->release(); }

 private:
  struct Entry {
    PickledTensor view;
    const char* storage;  // first byte, in the mapped file
  };
  const Entry& entry(const std::string& name) const;

  std::shared_ptr<const MappedFile> file_;
  std::map<std::string, Entry> entries_;
};

}  // namespace molt::io
