// What the tests of this room share: a directory that cleans up after itself, and writers that put safetensors, zip and
// pickle files together byte by byte, so that they can be as wrong as a test wants.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/base/json.h"
#include "molt/io/tensor_file.h"

namespace molt::io::testing {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    // In memory where there is such a place: these tests write some ten thousand small files.
    const std::filesystem::path shared = "/dev/shm";
    const bool in_memory = ::access(shared.c_str(), W_OK) == 0;
    std::string pattern = ((in_memory ? shared : std::filesystem::temp_directory_path()) / "molt_io_XXXXXX").string();
    MOLT_CHECK(::mkdtemp(pattern.data()) != nullptr, "test: no temporary directory");
    path_ = pattern;
  }
  ~TemporaryDirectory() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  std::string path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  /// Writes a file and returns its path.
  std::string write(const std::string& name, const std::string& bytes) const {
    std::filesystem::create_directories(std::filesystem::path(file(name)).parent_path());
    std::ofstream(file(name), std::ios::binary) << bytes;
    return file(name);
  }

 private:
  std::string path_;
};

inline std::string le(uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += i < 8 ? static_cast<char>(value >> (8 * i) & 0xff) : '\0';
  return text;
}

template <class T>
std::string raw_bytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// A safetensors file from its header's text and its data.
inline std::string safetensors(const std::string& header, const std::string& data) {
  return le(header.size(), 8) + header + data;
}

/// A zip file of stored entries, as torch writes them but for the checksums, which are zero.
inline std::string zip(const std::vector<std::pair<std::string, std::string>>& entries, bool zip64 = false,
                       int method = 0) {
  std::string body, directory;
  for (const auto& [name, content] : entries) {
    const uint64_t offset = body.size();
    const std::string padding(content.size() % 5, 'Z');  // any extra field in the local header must be skipped
    std::string extra;
    if (!padding.empty()) extra.append("FB").append(le(padding.size(), 2)).append(padding);
    const std::string common = le(0, 2) + le(static_cast<uint64_t>(method), 2) + le(0, 4) + le(0, 4);
    body += "PK\3\4" + le(0, 2) + common + le(content.size(), 4) + le(content.size(), 4) + le(name.size(), 2) +
            le(extra.size(), 2) + name + extra + content;
    const std::string wide = le(1, 2) + le(24, 2) + le(content.size(), 8) + le(content.size(), 8) + le(offset, 8);
    const uint64_t size = zip64 ? 0xffffffff : content.size();
    directory += "PK\1\2" + le(0, 4) + common + le(size, 4) + le(size, 4) + le(name.size(), 2) +
                 le(zip64 ? wide.size() : 0, 2) + le(0, 10) + le(zip64 ? 0xffffffff : offset, 4) + name +
                 (zip64 ? wide : "");
  }
  const uint64_t begin = body.size(), end = begin + directory.size();
  std::string tail;
  if (zip64) {
    tail += "PK\6\6" + le(44, 8) + le(0, 12) + le(entries.size(), 8) + le(entries.size(), 8) + le(directory.size(), 8) +
            le(begin, 8);
    tail += "PK\6\7" + le(0, 4) + le(end, 8) + le(1, 4);
  }
  tail += "PK\5\6" + le(0, 4) + le(zip64 ? 0xffff : entries.size(), 2) + le(zip64 ? 0xffff : entries.size(), 2) +
          le(zip64 ? 0xffffffff : directory.size(), 4) + le(zip64 ? 0xffffffff : begin, 4) + le(0, 2);
  return body + directory + tail;
}

// Pickle instructions.
namespace pickle {

inline std::string text(const std::string& s) { return str("X", le(s.size(), 4), s); }
inline std::string integer(int64_t n) { return "\x8a\x08" + le(static_cast<uint64_t>(n), 8); }
inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
inline std::string tuple(const std::vector<int64_t>& values) {
  std::string code = "(";
  for (const int64_t n : values) code += integer(n);
  return code + "t";
}
inline std::string storage(const std::string& type, const std::string& key, int64_t numel) {
  return str("(", text("storage"), global("torch", type), text(key), text("cpu"), integer(numel), "tQ");
}
inline std::string ordered_dict() { return global("collections", "OrderedDict") + ")R"; }

struct View {
  std::string name, type, key;
  int64_t numel;  // of the storage
  int64_t offset;
  std::vector<int64_t> shape, stride;
};
/// _rebuild_tensor_v2(storage, offset, shape, stride, False, OrderedDict())
inline std::string tensor(const View& v) {
  return global("torch._utils", "_rebuild_tensor_v2") + "(" + storage(v.type, v.key, v.numel) + integer(v.offset) +
         tuple(v.shape) + tuple(v.stride) + "\x89" + ordered_dict() + "tR";
}
inline std::string state_dict(const std::vector<View>& views) {
  std::string code = "\x80\x02" + ordered_dict() + "(";
  for (const View& v : views) code += text(v.name) + tensor(v);
  return code + "u.";
}

}  // namespace pickle

/// A torch.save file with the given pickle and storages.
inline std::string torch_file(const std::string& pickle_code,
                              const std::vector<std::pair<std::string, std::string>>& storages, bool zip64 = false) {
  std::vector<std::pair<std::string, std::string>> entries{{"archive/data.pkl", pickle_code},
                                                           {"archive/byteorder", "little"}};
  for (const auto& [key, bytes] : storages) entries.emplace_back("archive/data/" + key, bytes);
  entries.emplace_back("archive/version", "3\n");
  return zip(entries, zip64);
}

/// The message of the UsageError that f throws; any other outcome fails the test.
template <class F>
std::string usage_error_of(F&& f) {
  try {
    f();
  } catch (const UsageError& e) {
    return e.what();
  } catch (const std::exception& e) {
    ADD_FAILURE() << "expected a UsageError, got: " << e.what();
    return {};
  }
  ADD_FAILURE() << "expected a UsageError, nothing was thrown";
  return {};
}

/// Compares a tensor with a golden file's {"dtype": torch's word, "shape", "hex": the dense bytes}.
inline void expect_golden(const TensorFile& file, const std::string& name, const Json& facts) {
  const std::map<std::string, std::string> words{{"float32", "F32"},   {"float64", "F64"}, {"float16", "F16"},
                                                 {"bfloat16", "BF16"}, {"int64", "I64"},   {"int32", "I32"},
                                                 {"int8", "I8"},       {"uint8", "U8"},    {"bool", "BOOL"}};
  ASSERT_TRUE(file.has(name)) << file.path() << " " << name;
  const TensorInfo info = file.info(name);
  EXPECT_EQ(info.dtype->word, words.at(facts["dtype"])) << name;
  EXPECT_EQ(Json(info.shape), facts["shape"]) << name;
  if (!info.dtype->dtype) return;
  const Tensor tensor = file.tensor(name);
  std::string hex;
  for (size_t i = 0; i < tensor.bytes(); ++i) {
    const unsigned char byte = static_cast<const unsigned char*>(tensor.raw())[i];
    for (const int digit : {byte >> 4, byte & 15}) hex += "0123456789abcdef"[digit];
  }
  EXPECT_EQ(hex, facts["hex"].get<std::string>()) << file.path() << " " << name;
}

/// Opens a file and reads every tensor; true if that worked, false after a UsageError. Anything else escapes.
template <class File>
bool reads(const std::string& path) {
  try {
    const File file(path);
    for (const std::string& name : file.names()) {
      if (file.info(name).dtype->dtype) (void)file.tensor(name).values();
    }
    return true;
  } catch (const UsageError&) {
    return false;
  }
}

}  // namespace molt::io::testing

#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << "message: " << (text)
