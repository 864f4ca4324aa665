// A whole file mapped into memory, read-only, and the small helpers every reader and writer here shares: how hostile
// text is quoted in a message, and whether the disk has room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace molt::io {

/// The bytes of a file for as long as somebody holds it. The file must not shrink meanwhile: replacing it by rename, as
/// write_file_atomic does, is safe, truncating it in place is not.
class MappedFile {
 public:
  /// Throws UsageError when the file is missing, unreadable, a directory, or a git-lfs pointer instead of the content.
  static std::shared_ptr<const MappedFile> open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  const char* data() const { return data_; }
  uint64_t size() const { return size_; }
  /// Takes the pages out of this process' memory; they come back from the file when they are read again.
  void release() const;
  std::string_view bytes() const { return {data_, static_cast<size_t>(size_)}; }

 private:
  MappedFile() = default;
  std::string path_;
  const char* data_ = nullptr;  // null for an empty file
  uint64_t size_ = 0;
};

/// `text` between quotes with control characters escaped and cut to a readable length, so that a name from a foreign
/// file cannot break a one-line message.
std::string in_quotes(std::string_view text);

/// Whether bytes are well-formed UTF-8.
bool is_utf8(std::string_view text);

/// Throws SystemError when the file system that would hold `path` has less than `bytes` free, or does not tell.
void require_disk_room(const std::string& path, uint64_t bytes);

/// Little-endian unsigned integers from unaligned bytes.
inline uint64_t load_le(const char* at, int bytes) {
  uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) value |= uint64_t{static_cast<unsigned char>(at[i])} << (8 * i);
  return value;
}

}  // namespace molt::io
