// The central directory of a zip file whose entries are stored uncompressed, as torch.save writes them (zip64 or not).
// Checksums are not compared: torch writes placeholders when asked not to compute them, and it does not check either.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "molt/io/mapped_file.h"

namespace molt::io {

class ZipArchive {
 public:
  /// Throws UsageError when the file is not a zip, is truncated, or holds an entry that is compressed, encrypted, named
  /// twice or outside the file.
  explicit ZipArchive(std::shared_ptr<const MappedFile> file);

  const std::shared_ptr<const MappedFile>& file() const { return file_; }
  /// Name to content, sorted. The bytes live as long as file().
  const std::map<std::string, std::string_view>& entries() const { return entries_; }

 private:
  void read_entry(uint64_t& at, uint64_t directory_begin, uint64_t directory_end);

  std::shared_ptr<const MappedFile> file_;
  std::map<std::string, std::string_view> entries_;
};

}  // namespace molt::io
