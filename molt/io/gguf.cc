#include "molt/io/gguf.h"

#include <algorithm>
#include <cstring>

#include "molt/base/error.h"
#include "molt/io/gguf_types.h"

namespace molt::io {
namespace {

// ggml.h's enum ggml_type and the block sizes of ggml-common.h.
constexpr GgmlType kGgmlTypes[] = {
    {0, 1, 4, {"F32", 32, Dtype::kF32}},  {1, 1, 2, {"F16", 16, Dtype::kF16}},    {2, 32, 18, {"Q4_0", 0, {}}},
    {3, 32, 20, {"Q4_1", 0, {}}},         {6, 32, 22, {"Q5_0", 0, {}}},           {7, 32, 24, {"Q5_1", 0, {}}},
    {8, 32, 34, {"Q8_0", 0, {}}},         {9, 32, 36, {"Q8_1", 0, {}}},           {10, 256, 84, {"Q2_K", 0, {}}},
    {11, 256, 110, {"Q3_K", 0, {}}},      {12, 256, 144, {"Q4_K", 0, {}}},        {13, 256, 176, {"Q5_K", 0, {}}},
    {14, 256, 210, {"Q6_K", 0, {}}},      {15, 256, 292, {"Q8_K", 0, {}}},        {16, 256, 66, {"IQ2_XXS", 0, {}}},
    {17, 256, 74, {"IQ2_XS", 0, {}}},     {18, 256, 98, {"IQ3_XXS", 0, {}}},      {19, 256, 50, {"IQ1_S", 0, {}}},
    {20, 32, 18, {"IQ4_NL", 0, {}}},      {21, 256, 110, {"IQ3_S", 0, {}}},       {22, 256, 82, {"IQ2_S", 0, {}}},
    {23, 256, 136, {"IQ4_XS", 0, {}}},    {24, 1, 1, {"I8", 8, Dtype::kI8}},      {25, 1, 2, {"I16", 16, {}}},
    {26, 1, 4, {"I32", 32, Dtype::kI32}}, {27, 1, 8, {"I64", 64, Dtype::kI64}},   {28, 1, 8, {"F64", 64, Dtype::kF64}},
    {29, 256, 56, {"IQ1_M", 0, {}}},      {30, 1, 2, {"BF16", 16, Dtype::kBf16}}, {34, 256, 54, {"TQ1_0", 0, {}}},
    {35, 256, 66, {"TQ2_0", 0, {}}},      {39, 32, 17, {"MXFP4", 0, {}}},
};

/// Bytes of a scalar; 0 for strings and lists.
uint64_t scalar_size(GgufType type) {
  constexpr uint64_t kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return kSizes[static_cast<uint32_t>(type)];
}

bool is_number(GgufType type) { return type == GgufType::kF32 || type == GgufType::kF64; }

}  // namespace

const GgmlType* find_ggml_type(uint32_t code) {
  for (const GgmlType& type : kGgmlTypes) {
    if (type.code == code) return &type;
  }
  return nullptr;
}

const GgmlType* ggml_type_of(Dtype dtype) {
  for (const GgmlType& type : kGgmlTypes) {
    if (type.dtype.dtype == dtype) return &type;
  }
  return nullptr;
}

const char* gguf_type_name(GgufType type) {
  static constexpr const char* kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                           "bool", "string", "array", "u64", "i64", "f64"};
  return kNames[static_cast<uint32_t>(type)];
}

std::string GgufValue::str() const {
  if (list) return molt::str("[", size(), " x ", gguf_type_name(type), "]");
  if (!texts.empty()) return texts[0];
  if (!numbers.empty()) return molt::str(numbers[0]);
  if (integers.empty()) return "";
  if (type == GgufType::kBool) return integers[0] ? "true" : "false";
  return molt::str(integers[0]);
}

/// Walks over the bytes of the header; every step asks whether they are there.
class GgufFile::Cursor {
 public:
  explicit Cursor(const MappedFile& file) : file_(file) {}

  uint64_t left() const { return file_.size() - at_; }
  uint64_t at() const { return at_; }
  uint64_t integer(int bytes, const char* what) {
    need(static_cast<uint64_t>(bytes), what);
    const uint64_t value = load_le(file_.data() + at_, bytes);
    at_ += static_cast<uint64_t>(bytes);
    return value;
  }
  /// A count of things of which each takes at least `least` bytes of what is left.
  uint64_t count(uint64_t least, const char* what) {
    const uint64_t n = integer(8, what);
    if (n > left() / least) refuse(what, " is ", n, ", but only ", left(), " bytes are left; download it again");
    return n;
  }
  std::string text(const char* what) {
    const uint64_t size = count(1, what);
    std::string value(file_.data() + at_, static_cast<size_t>(size));
    at_ += size;
    if (!is_utf8(value)) refuse(what, " ", in_quotes(value), " is not UTF-8");
    return value;
  }
  GgufType type(const char* what) {
    const uint64_t code = integer(4, what);
    if (code > static_cast<uint64_t>(GgufType::kF64)) refuse(what, " ", code, " is unknown");
    return static_cast<GgufType>(code);
  }
  /// One value or element, onto the end of the list it belongs to.
  void element(GgufType type, const std::string& key, GgufValue& to) {
    if (type == GgufType::kString) {
      to.texts.push_back(text("a string's length"));
      return;
    }
    const int size = static_cast<int>(scalar_size(type));
    uint64_t bits = integer(size, "a value");
    if (type == GgufType::kF32) {
      float value;
      const auto narrow = static_cast<uint32_t>(bits);
      std::memcpy(&value, &narrow, sizeof value);
      to.numbers.push_back(value);
    } else if (type == GgufType::kF64) {
      double value;
      std::memcpy(&value, &bits, sizeof value);
      to.numbers.push_back(value);
    } else {
      const bool is_signed = type == GgufType::kI8 || type == GgufType::kI16 || type == GgufType::kI32;
      if (is_signed && (bits >> (8 * size - 1)) != 0) bits |= ~uint64_t{0} << (8 * size - 1);
      if (type == GgufType::kU64 && bits > static_cast<uint64_t>(INT64_MAX))
        refuse(in_quotes(key), " is ", bits, ", more than Molt reads");
      if (type == GgufType::kBool && bits > 1) refuse(in_quotes(key), " is ", bits, ", expected a bool");
      to.integers.push_back(static_cast<int64_t>(bits));
    }
  }
  template <class... Args>
  [[noreturn]] void refuse(const Args&... what) const {
    usage_error(file_.path(), ": not a GGUF file that can be read: ", what...);
  }

 private:
  void need(uint64_t bytes, const char* what) const {
    if (left() < bytes) refuse("it ends within its header, at ", what, "; download it again");
  }
  const MappedFile& file_;
  uint64_t at_ = 0;
};

GgufFile::GgufFile(const std::string& path) : file_(MappedFile::open(path)) {
  Cursor at(*file_);
  if (at.left() < sizeof kGgufMagic || std::memcmp(file_->data(), kGgufMagic, sizeof kGgufMagic) != 0)
    usage_error(path, ": not a GGUF file: it does not begin with GGUF");
  at.integer(4, "magic");
  const uint64_t version = at.integer(4, "version");
  if ((version & 0xffff) == 0 && version != 0)
    usage_error(path, ": is a big-endian GGUF file; Molt reads little-endian");
  if (version != 2 && version != 3) usage_error(path, ": is GGUF version ", version, "; Molt reads 2 and 3");
  const uint64_t tensors = at.count(8 + 4 + 4 + 8, "the number of tensors");
  const uint64_t values = at.count(8 + 4 + 1, "the number of metadata values");
  for (uint64_t i = 0; i < values; ++i) read_metadata(at);
  uint64_t alignment = kGgufAlignment;
  if (const auto found = metadata_.find("general.alignment"); found != metadata_.end()) {
    const GgufValue& value = found->second;
    if (value.type != GgufType::kU32 || value.list) at.refuse("general.alignment is not a u32");
    alignment = static_cast<uint64_t>(value.integers[0]);
    if (alignment < 8 || (alignment & (alignment - 1)) != 0 || alignment > (1 << 20))
      at.refuse("general.alignment is ", alignment, ", expected a power of two from 8 to 1048576");
  }
  for (uint64_t i = 0; i < tensors; ++i) read_entry(at);
  const uint64_t data = (at.at() + alignment - 1) / alignment * alignment;
  if (tensors > 0) check_layout(data, alignment);
}

void GgufFile::read_metadata(Cursor& at) {
  const std::string key = at.text("the length of a key");
  GgufValue value;
  value.type = at.type("a value's type");
  if (value.type == GgufType::kArray) {
    value.list = true;
    value.type = at.type("a list's type");
    if (value.type == GgufType::kArray) at.refuse(in_quotes(key), " is a list of lists");
    const uint64_t count = at.count(
        std::max<uint64_t>(scalar_size(value.type), value.type == GgufType::kString ? 8 : 1), "a list's length");
    for (uint64_t i = 0; i < count; ++i) at.element(value.type, key, value);
  } else {
    at.element(value.type, key, value);
  }
  if (!metadata_.emplace(key, std::move(value)).second) at.refuse("the key ", in_quotes(key), " stands twice");
}

void GgufFile::read_entry(Cursor& at) {
  const std::string name = at.text("the length of a tensor's name");
  const auto fail = [&](const auto&... what) { usage_error(path(), ": tensor ", in_quotes(name), ": ", what...); };
  const uint64_t dims = at.integer(4, "a tensor's dimensions");
  if (dims > kGgufMaxDims) fail(dims, " dimensions, at most ", kGgufMaxDims, " are allowed");
  Shape shape(static_cast<size_t>(dims));
  for (size_t d = shape.size(); d-- > 0;) {  // the format has the innermost first
    const uint64_t size = at.integer(8, "a tensor's dimension");
    if (size > static_cast<uint64_t>(INT64_MAX)) fail("a dimension of ", size, " is too large");
    shape[d] = static_cast<int64_t>(size);
  }
  const uint64_t code = at.integer(4, "a tensor's type");
  const GgmlType* const type = find_ggml_type(static_cast<uint32_t>(code));
  if (!type) fail("its type ", code, " is unknown");
  const auto bytes_if_single = dense_bytes(shape, *find_file_dtype("U8"));
  const int64_t row = shape.empty() ? 1 : shape.back();
  if (!bytes_if_single) fail("shape ", shape_str(shape), " is too large");
  if (row % type->block != 0) fail("rows of ", row, " do not fit blocks of ", type->block, " (", type->dtype.word, ")");
  const uint64_t blocks = *bytes_if_single / static_cast<uint64_t>(type->block);
  if (blocks > (~uint64_t{0} >> 8) / static_cast<uint64_t>(type->bytes))
    fail("shape ", shape_str(shape), " is too large");
  Entry entry{{&type->dtype, shape}, at.integer(8, "a tensor's offset"), blocks * static_cast<uint64_t>(type->bytes)};
  if (!entries_.emplace(name, std::move(entry)).second) fail("there are two of this name");
}

void GgufFile::check_layout(uint64_t data, uint64_t alignment) {
  const uint64_t size = file_->size();
  if (data > size) usage_error(path(), ": truncated: its data would begin at byte ", data, " of ", size);
  std::vector<std::pair<const std::string*, Entry*>> order;
  for (auto& [name, entry] : entries_) order.emplace_back(&name, &entry);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->size) < std::pair(b.second->begin, b.second->size);
  });
  uint64_t end = 0;  // in the data
  for (const auto& [name, entry] : order) {
    const uint64_t expected = (end + alignment - 1) / alignment * alignment;
    if (entry->begin != expected) {
      usage_error(path(), ": tensor ", in_quotes(*name), ": its data begins at ", entry->begin, ", expected ", expected,
                  ": tensors overlap, leave a gap or are not aligned");
    }
    if (entry->size > size - data || entry->begin > size - data - entry->size) {
      usage_error(path(), ": tensor ", in_quotes(*name), ": its data ends behind the file's end; download it again");
    }
    end = entry->begin + entry->size;
    entry->begin += data;
  }
  if (size - data - end >= alignment)
    usage_error(path(), ": ", size - data - end, " bytes at the end belong to no tensor");
}

std::vector<std::string> GgufFile::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

const GgufFile::Entry& GgufFile::entry(const std::string& name) const {
  const auto it = entries_.find(name);
  if (it == entries_.end()) no_such_tensor(name);
  return it->second;
}

TensorInfo GgufFile::info(const std::string& name) const { return entry(name).info; }

Tensor GgufFile::tensor(const std::string& name) const {
  const Entry& e = entry(name);
  const Dtype dtype = readable(name, *e.info.dtype);
  return Tensor::wrap(file_->data() + e.begin, e.info.shape, dtype, file_);  // aligned to 8 at least
}

std::string GgufFile::text(const std::string& key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end() || found->second.list || found->second.texts.size() != 1)
    usage_error(path(), ": its metadata has no text ", in_quotes(key));
  return found->second.texts[0];
}

double GgufFile::number(const std::string& key) const {
  const auto found = metadata_.find(key);
  const bool good = found != metadata_.end() && !found->second.list && found->second.texts.empty();
  if (!good) usage_error(path(), ": its metadata has no number ", in_quotes(key));
  const GgufValue& v = found->second;
  return is_number(v.type) ? v.numbers[0] : static_cast<double>(v.integers[0]);
}

}  // namespace molt::io
