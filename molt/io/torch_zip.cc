#include "molt/io/torch_zip.h"

#include <cstring>

#include "molt/io/zip_archive.h"

namespace molt::io {
namespace {

constexpr std::string_view kPickle = "data.pkl";

/// "NAME/" of the one entry "NAME/data.pkl".
std::string archive_prefix(const ZipArchive& zip) {
  std::string prefix;
  bool found = false;
  for (const auto& [name, bytes] : zip.entries()) {
    if (name.size() < kPickle.size() || name.compare(name.size() - kPickle.size(), kPickle.size(), kPickle) != 0)
      continue;
    const std::string before = name.substr(0, name.size() - kPickle.size());
    if (!before.empty() && before.back() != '/') continue;
    if (found) usage_error(zip.file()->path(), ": holds more than one data.pkl; expected a file that torch.save wrote");
    found = true;
    prefix = before;
  }
  if (!found) usage_error(zip.file()->path(), ": a zip file without data.pkl; expected a file that torch.save wrote");
  return prefix;
}

bool is_dense(const PickledTensor& t) {
  int64_t expected = 1;
  for (size_t i = t.shape.size(); i-- > 0;) {
    if (t.shape[i] != 1 && t.stride[i] != expected) return false;
    expected *= t.shape[i];
  }
  return true;
}

/// Copies a strided view of elements of `width` bytes into dense memory.
void gather(const PickledTensor& t, const char* storage, size_t width, char* to) {
  const size_t rank = t.shape.size();
  const int64_t inner = t.shape[rank - 1], inner_stride = t.stride[rank - 1];
  const int64_t lines = shape_numel(t.shape) / inner;
  Shape index(rank, 0);
  for (int64_t line = 0; line < lines; ++line) {
    int64_t start = t.offset;
    for (size_t i = 0; i + 1 < rank; ++i) start += index[i] * t.stride[i];
    const char* from = storage + static_cast<size_t>(start) * width;
    for (int64_t k = 0; k < inner; ++k, to += width) {
      std::memcpy(to, from + static_cast<size_t>(k * inner_stride) * width, width);
    }
    for (size_t i = rank - 1; i-- > 0;) {
      if (++index[i] < t.shape[i]) break;
      index[i] = 0;
    }
  }
}

}  // namespace

TorchZipFile::TorchZipFile(const std::string& path) : file_(MappedFile::open(path)) {
  const std::string_view bytes = file_->bytes();
  if (bytes.size() >= 2 && bytes[0] == '\x80' && static_cast<unsigned char>(bytes[1]) <= 5) {
    usage_error(path,
                ": a bare pickle, the format of PyTorch before 1.6, is not read; load it in a recent PyTorch and ",
                "save it again, or convert it to safetensors");
  }
  if (bytes.substr(0, 2) != "PK") usage_error(path, ": not a file of torch.save: it does not begin as a zip file");
  const ZipArchive zip(file_);
  const std::string prefix = archive_prefix(zip);
  const auto& entries = zip.entries();
  if (const auto order = entries.find(prefix + "byteorder"); order != entries.end() && order->second != "little") {
    usage_error(path, ": its byte order is ", in_quotes(order->second), ", expected 'little'");
  }
  for (auto& [name, view] : read_state_dict_pickle(entries.at(prefix + std::string(kPickle)), path)) {
    const auto fail = [&, &tensor = name](const auto&... what) {
      usage_error(path, ": tensor ", in_quotes(tensor), ": ", what...);
    };
    const auto storage = entries.find(prefix + "data/" + view.storage);
    if (storage == entries.end()) fail("its storage ", in_quotes(view.storage), " is not in the file");
    const auto expected = dense_bytes({view.storage_numel}, *view.dtype);
    if (!expected || *expected != storage->second.size()) {
      fail("its storage ", in_quotes(view.storage), " should hold ", view.storage_numel, " ", view.dtype->word,
           ", it has ", storage->second.size(), " bytes");
    }
    entries_.emplace(name, Entry{std::move(view), storage->second.data()});
  }
}

std::vector<std::string> TorchZipFile::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

const TorchZipFile::Entry& TorchZipFile::entry(const std::string& name) const {
  const auto it = entries_.find(name);
  if (it == entries_.end()) no_such_tensor(name);
  return it->second;
}

TensorInfo TorchZipFile::info(const std::string& name) const {
  const Entry& e = entry(name);
  return {e.view.dtype, e.view.shape};
}

Tensor TorchZipFile::tensor(const std::string& name) const {
  const Entry& e = entry(name);
  const PickledTensor& view = e.view;
  const Dtype dtype = readable(name, *view.dtype);
  const size_t width = dtype_size(dtype);
  const int64_t numel = shape_numel(view.shape);
  if (numel == 0) return Tensor::empty(view.shape, dtype);
  const char* data = e.storage + static_cast<size_t>(view.offset) * width;
  const bool dense = is_dense(view);
  if (dense && reinterpret_cast<uintptr_t>(data) % width == 0) return Tensor::wrap(data, view.shape, dtype, file_);
  constexpr int64_t kSmall = 1 << 20;  // elements an expanded tensor may have whatever its storage
  if (numel > view.storage_numel && numel > kSmall) {
    usage_error(path(), ": tensor ", in_quotes(name), ": ", numel, " elements repeat a storage of ", view.storage_numel,
                "; save it with .contiguous()");
  }
  Tensor copy = Tensor::empty(view.shape, dtype);
  if (dense) {
    std::memcpy(copy.raw(), data, copy.bytes());
  } else {
    gather(view, e.storage, width, static_cast<char*>(copy.raw()));
  }
  return copy;
}

}  // namespace molt::io
