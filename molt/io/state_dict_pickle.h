// The pickle inside a torch.save file, read as data. A pickle is a program for a stack machine that can call anything;
// this machine knows the few instructions and the three functions a state dict is made of, refuses every other by name,
// and runs no code of the file.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "molt/io/tensor_file.h"

namespace molt::io {

/// A tensor as the pickle describes it: a strided view of a numbered storage.
struct PickledTensor {
  const FileDtype* dtype = nullptr;
  std::string storage;        ///< the entry "data/STORAGE" of the archive holds its bytes
  int64_t storage_numel = 0;  ///< elements
  int64_t offset = 0;         ///< elements
  Shape shape, stride;        ///< of equal length; every index lies inside the storage
};

/// The named tensors of a pickled dict (or OrderedDict), in its order. Dicts in the dict are flattened, their keys
/// joined with a dot ("model.w"); numbers, texts and lists beside tensors are passed over. Throws UsageError, opening
/// with `where`, for a pickle that is damaged, asks for anything else, or holds no tensor.
std::vector<std::pair<std::string, PickledTensor>> read_state_dict_pickle(std::string_view pickle,
                                                                          const std::string& where);

}  // namespace molt::io
