// What every file of named tensors offers, whatever its format: names, what each tensor is, and the tensor itself.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "molt/tensor/tensor.h"

namespace molt::io {

/// A dtype as files spell it. The words are safetensors'; torch's storage classes are translated to them.
struct FileDtype {
  const char* word;            ///< "F32", "BF16", "F8_E4M3", …
  int bits;                    ///< per element
  std::optional<Dtype> dtype;  ///< ours; nothing for one whose size we know but which Molt does not compute with
};

/// The dtype of a word, null for an unknown word.
const FileDtype* find_file_dtype(std::string_view word);
/// The file's word for one of ours.
const FileDtype& file_dtype(Dtype dtype);

/// What a file says of one tensor.
struct TensorInfo {
  const FileDtype* dtype;
  Shape shape;
};

/// The bytes of a dense tensor; nothing if a dimension is negative or a product overflows (zeros do not hide an
/// overflow: no partial product may).
std::optional<uint64_t> dense_bytes(const Shape& shape, const FileDtype& dtype);

class TensorFile {
 public:
  virtual ~TensorFile() = default;
  TensorFile() = default;
  TensorFile(const TensorFile&) = delete;
  TensorFile& operator=(const TensorFile&) = delete;

  virtual const std::string& path() const = 0;
  /// Every tensor, sorted by name.
  virtual std::vector<std::string> names() const = 0;
  virtual bool has(const std::string& name) const = 0;
  /// Both throw UsageError with the file and the name when there is no such tensor.
  virtual TensorInfo info(const std::string& name) const = 0;
  /// The content: a read-only view of the mapped file where the layout allows, else a copy; valid after this object is
  /// gone. Throws UsageError for a dtype Molt does not compute with.
  virtual Tensor tensor(const std::string& name) const = 0;
  /// What has been read of the file need not stay in memory; it is read again when it is looked at.
  virtual void release() const {}

 protected:
  /// Our dtype of a tensor that is to be read, or the UsageError that names it.
  Dtype readable(const std::string& name, const FileDtype& dtype) const;
  [[noreturn]] void no_such_tensor(const std::string& name) const;
};

}  // namespace molt::io
