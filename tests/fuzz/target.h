// Fuzz targets: one function per reader of foreign bytes. It may throw UsageError, which is how a reader refuses, and
// nothing else. tests/fuzz_test replays each target's corpus and mutates it; a build with MOLT_FUZZ=ON (preset fuzz)
// also makes each target a libFuzzer program.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "molt/base/error.h"

namespace molt::fuzz {

using Function = void (*)(std::string_view bytes);

/// Every target of this program, by name.
inline std::vector<std::pair<std::string, Function>>& targets() {
  static std::vector<std::pair<std::string, Function>> all;
  return all;
}

/// Runs one input; a refusal is a good answer.
inline void run(Function target, std::string_view bytes) {
  try {
    target(bytes);
  } catch (const UsageError&) {
  }
}

/// A file in memory with a path, for readers that open files; rewritten for each input.
class MemoryFile {
 public:
  MemoryFile() : fd_(::memfd_create("fuzz", MFD_CLOEXEC)), path_(str("/proc/self/fd/", fd_)) {
    if (fd_ < 0) throw std::runtime_error("memfd_create failed");
  }
  ~MemoryFile() { ::close(fd_); }
  const std::string& write(std::string_view bytes) const {
    if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
      throw std::runtime_error("the memory file cannot be written");
    return path_;
  }

 private:
  int fd_;
  std::string path_;
};

/// A directory of this process for readers that want several files, in memory where there is such a place.
class Directory {
 public:
  Directory() {
    const std::filesystem::path shared = "/dev/shm";
    const bool in_memory = ::access(shared.c_str(), W_OK) == 0;
    std::string pattern = ((in_memory ? shared : std::filesystem::temp_directory_path()) / "molt_fuzz_XXXXXX").string();
    if (!::mkdtemp(pattern.data())) throw std::runtime_error("mkdtemp failed");
    path_ = pattern;
  }
  ~Directory() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  const std::string& path() const { return path_; }
  void write(const std::string& name, std::string_view bytes) const {
    const std::filesystem::path path = std::filesystem::path(path_) / name;
    if (name.find('/') != std::string::npos) std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  void remove(const std::string& name) const { std::filesystem::remove(std::filesystem::path(path_) / name); }
  /// Copies a file of the repository.
  void copy(const std::string& from, const std::string& name) const {
    std::filesystem::copy_file(std::string(MOLT_SOURCE_DIR "/") + from, std::filesystem::path(path_) / name,
                               std::filesystem::copy_options::overwrite_existing);
  }

 private:
  std::string path_;
};

/// The first byte as a number below `count`, taken off; 0 for an empty input. Corpora use the digits.
inline int take_choice(std::string_view& bytes, int count) {
  if (bytes.empty()) return 0;
  const int choice = static_cast<unsigned char>(bytes[0]) % 16 % count;
  bytes.remove_prefix(1);
  return choice;
}

}  // namespace molt::fuzz

#ifdef MOLT_LIBFUZZER
#define MOLT_FUZZ_ENTRY(name)                                                  \
  extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {    \
    molt::fuzz::run(fuzz_##name, {reinterpret_cast<const char*>(data), size}); \
    return 0;                                                                  \
  }
#else
#define MOLT_FUZZ_ENTRY(name) \
  static const bool registered_##name = (molt::fuzz::targets().emplace_back(#name, fuzz_##name), true);
#endif

/// MOLT_FUZZ_TARGET(name) { … reads `bytes` … }; its corpus lies in tests/fuzz/corpus/name.
#define MOLT_FUZZ_TARGET(name)                     \
  static void fuzz_##name(std::string_view bytes); \
  MOLT_FUZZ_ENTRY(name)                            \
  static void fuzz_##name(std::string_view bytes)
