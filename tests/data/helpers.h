// What the data tests share: files in a temporary directory, a toy tokenizer, and the real data when it is there.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "molt/base/error.h"
#include "molt/data/encode.h"

namespace molt::data::testing {

/// A directory that is removed with the object.
class TempDir {
 public:
  TempDir() {
    std::string path = (std::filesystem::temp_directory_path() / "molt_data_XXXXXX").string();
    if (!::mkdtemp(path.data())) throw std::runtime_error("mkdtemp");
    path_ = path;
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  /// Writes a file and returns its path.
  std::string file(const std::string& name, const std::string& bytes) const {
    std::ofstream(*this / name, std::ios::binary) << bytes;
    return *this / name;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// One token per byte (its value), except that "ab" is one token, 256: shows merges across pieces. eos is 257.
inline Encoder toy_encoder() {
  Encoder e;
  e.encode = [](std::string_view text) {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < text.size(); ++i) {
      const bool pair = text.substr(i, 2) == "ab";
      ids.push_back(pair ? 256 : static_cast<unsigned char>(text[i]));
      i += pair;
    }
    return ids;
  };
  e.eos = 257;
  e.vocab_size = 258;
  e.fingerprint = "toy";
  e.thread_safe = true;
  return e;
}

/// The text of the UsageError that `f` throws, or "" when it throws none.
template <class F>
std::string usage_message(F&& f) {
  try {
    f();
  } catch (const UsageError& e) {
    return e.what();
  }
  return "";
}

/// Passes when the UsageError that `f` throws contains every part.
template <class F>
void expect_usage_error(F&& f, const std::vector<std::string>& parts) {
  const std::string message = usage_message(f);
  ASSERT_FALSE(message.empty()) << "nothing was thrown";
  for (const auto& part : parts) EXPECT_NE(message.find(part), std::string::npos) << message << "\nlacks: " << part;
}

/// The folder with real data (MOLT_SHARED, or ../shared beside the repository), or "" when there is none.
inline std::string shared_data() {
  const char* set = std::getenv("MOLT_SHARED");
  const std::filesystem::path root = set ? set : MOLT_SOURCE_DIR "/../shared";
  return std::filesystem::exists(root / "data") ? (root / "data").string() : "";
}

}  // namespace molt::data::testing
