#include "molt/io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>

#include "molt/base/file.h"
#include "molt/base/json.h"
#include "molt/io/dense.h"

namespace molt::io {
namespace {

static_assert(std::endian::native == std::endian::little, "tensor files are little-endian and are mapped as they are");

constexpr uint64_t kMaxHeader = 100'000'000;  // the reference reader's limit
constexpr const char* kMetadata = "__metadata__";

/// The non-negative integer a JSON value holds, or nothing.
std::optional<int64_t> as_count(const Json& value) {
  if (!value.is_number_unsigned()) return {};
  const uint64_t n = value.get<uint64_t>();
  if (n > static_cast<uint64_t>(INT64_MAX)) return {};
  return static_cast<int64_t>(n);
}

const Json* find(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it == object.end() ? nullptr : &*it;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path) : file_(MappedFile::open(path)) {
  const uint64_t size = file_->size();
  if (size < 8) usage_error(path, ": not a safetensors file: ", size, " bytes are less than its 8-byte header length");
  const uint64_t header_size = load_le(file_->data(), 8);
  if (header_size > kMaxHeader) {
    usage_error(path, ": not a safetensors file: its header would have ", header_size, " bytes, at most ", kMaxHeader,
                " are allowed");
  }
  if (header_size > size - 8) {
    usage_error(path, ": truncated: the header has ", header_size, " bytes, the file ", size, "; download it again");
  }
  const uint64_t start = 8 + header_size, data_size = size - start;
  const Json header = parse_json({file_->data() + 8, static_cast<size_t>(header_size)}, str(path, ": header"));
  if (!header.is_object()) usage_error(path, ": header: expected a JSON object, found ", header.type_name());

  for (const auto& [name, value] : header.items()) {
    if (name == kMetadata) {
      if (!value.is_object()) usage_error(path, ": ", kMetadata, ": expected a JSON object of strings");
      for (const auto& [key, text] : value.items()) {
        if (!text.is_string()) usage_error(path, ": ", kMetadata, ": ", in_quotes(key), " is not a string");
        metadata_[key] = text.get<std::string>();
      }
      continue;
    }
    const auto fail = [&, &tensor = name](const auto&... what) {
      usage_error(path, ": tensor ", in_quotes(tensor), ": ", what...);
    };
    if (!value.is_object()) fail("expected a JSON object, found ", value.type_name());
    const Json *dtype = find(value, "dtype"), *shape = find(value, "shape"), *offsets = find(value, "data_offsets");
    if (!dtype || !dtype->is_string()) fail("dtype: expected a string");
    if (!shape || !shape->is_array()) fail("shape: expected a list");
    if (!offsets || !offsets->is_array() || offsets->size() != 2) fail("data_offsets: expected [begin, end]");

    Entry entry;
    const std::string word = dtype->get<std::string>();
    entry.info.dtype = find_file_dtype(word);
    if (!entry.info.dtype) fail("unknown dtype ", in_quotes(word));
    for (const Json& d : *shape) {
      const auto count = as_count(d);
      if (!count) fail("shape: expected non-negative integers");
      entry.info.shape.push_back(*count);
    }
    const auto begin = as_count((*offsets)[0]), end = as_count((*offsets)[1]);
    if (!begin || !end) fail("data_offsets: expected non-negative integers");
    if (*begin > *end) fail("data_offsets: ", *begin, " to ", *end, " run backwards");
    if (static_cast<uint64_t>(*end) > data_size) {
      fail("its data ends at byte ", *end, " of ", data_size, ": the file is truncated; download it again");
    }
    const auto bytes = dense_bytes(entry.info.shape, *entry.info.dtype);
    if (!bytes) fail("shape ", shape_str(entry.info.shape), " of ", word, " is too large");
    if (*bytes != static_cast<uint64_t>(*end - *begin)) {
      fail("shape ", shape_str(entry.info.shape), " of ", word, " needs ", *bytes, " bytes, data_offsets give ",
           *end - *begin);
    }
    entry.begin = start + static_cast<uint64_t>(*begin);
    entry.end = start + static_cast<uint64_t>(*end);
    entries_.emplace(name, std::move(entry));
  }

  std::vector<std::pair<const std::string*, const Entry*>> order;
  for (const auto& [name, entry] : entries_) order.emplace_back(&name, &entry);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
  });
  uint64_t at = start;
  for (const auto& [name, entry] : order) {
    if (entry->begin != at) {
      usage_error(path, ": tensor ", in_quotes(*name), ": data_offsets begin at ", entry->begin - start, ", expected ",
                  at - start, ": tensors overlap or leave a gap");
    }
    at = entry->end;
  }
  if (at != size) usage_error(path, ": ", size - at, " bytes at the end belong to no tensor");
}

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

const SafetensorsFile::Entry& SafetensorsFile::entry(const std::string& name) const {
  const auto it = entries_.find(name);
  if (it == entries_.end()) no_such_tensor(name);
  return it->second;
}

TensorInfo SafetensorsFile::info(const std::string& name) const { return entry(name).info; }

Tensor SafetensorsFile::tensor(const std::string& name) const {
  const Entry& e = entry(name);
  const Dtype dtype = readable(name, *e.info.dtype);
  const char* data = file_->data() + e.begin;
  if (reinterpret_cast<uintptr_t>(data) % dtype_size(dtype) == 0) {
    return Tensor::wrap(data, e.info.shape, dtype, file_);
  }
  Tensor copy = Tensor::empty(e.info.shape, dtype);  // the format does not promise alignment
  std::memcpy(copy.raw(), data, copy.bytes());
  return copy;
}

void write_safetensors(const std::string& path, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<const NamedTensors::value_type*> order;
  std::set<std::string_view> seen;
  for (const auto& item : tensors) {
    const auto& [name, tensor] = item;
    MOLT_CHECK(tensor.defined(), "write_safetensors: tensor ", in_quotes(name), " is undefined");
    MOLT_CHECK(tensor.device() == Device::kCpu, "write_safetensors: tensor ", in_quotes(name), " is not on the CPU");
    MOLT_CHECK(seen.insert(name).second, "write_safetensors: two tensors are called ", in_quotes(name));
    if (name.empty() || name == kMetadata || !is_utf8(name)) {
      usage_error(path, ": a tensor cannot be called ", in_quotes(name));
    }
    order.push_back(&item);
  }
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    const FileDtype *left = &file_dtype(a->second.dtype()), *right = &file_dtype(b->second.dtype());
    return left != right ? left > right : a->first < b->first;  // one table: its order is the dtypes' order
  });

  OrderedJson header = OrderedJson::object();
  if (!metadata.empty()) {
    OrderedJson& entries = header[kMetadata];
    for (const auto& [key, value] : metadata) {
      if (!is_utf8(key) || !is_utf8(value)) usage_error(path, ": metadata ", in_quotes(key), " is not UTF-8");
      entries[key] = value;
    }
  }
  uint64_t end = 0;
  for (const auto* item : order) {
    const auto& [name, tensor] = *item;
    const uint64_t begin = end;
    end += tensor.bytes();
    header[name] = {{"dtype", file_dtype(tensor.dtype()).word},
                    {"shape", tensor.shape()},
                    {"data_offsets", std::vector<uint64_t>{begin, end}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (text.size() > kMaxHeader) usage_error(path, ": too many tensors: the header would have ", text.size(), " bytes");
  require_disk_room(path, 8 + text.size() + end);

  write_file_atomic(path, [&](const ByteSink& sink) {
    const uint64_t header_size = text.size();
    sink(&header_size, sizeof header_size);
    sink(text.data(), text.size());
    for (const auto* item : order) write_dense(sink, item->second);
  });
}

}  // namespace molt::io
