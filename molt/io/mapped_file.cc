#include "molt/io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "molt/base/error.h"
#include "molt/base/format.h"
#include "molt/base/json.h"
#include "molt/base/system.h"

namespace molt::io {

std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe is refused, not waited for
  if (fd < 0) usage_error(path, ": cannot be read: ", std::strerror(errno));
  struct stat info {};
  const bool known = ::fstat(fd, &info) == 0;
  std::shared_ptr<MappedFile> file(new MappedFile);
  file->path_ = path;
  void* data = nullptr;
  if (known && S_ISREG(info.st_mode) && info.st_size > 0) {
    file->size_ = static_cast<uint64_t>(info.st_size);
    data = ::mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
  }
  const int cause = errno;
  ::close(fd);
  if (!known) usage_error(path, ": cannot be read: ", std::strerror(cause));
  if (!S_ISREG(info.st_mode)) usage_error(path, ": expected a file, found a directory, a pipe or a device");
  if (data == MAP_FAILED) {
    file->size_ = 0;
    system_error(path, ": cannot be mapped into memory: ", std::strerror(cause));
  }
  file->data_ = static_cast<const char*>(data);
  if (file->bytes().substr(0, 40).find("version https://git-lfs") == 0) {
    usage_error(path, ": is a git-lfs pointer, not the file itself; run 'git lfs pull' in its directory");
  }
  return file;
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<char*>(data_), static_cast<size_t>(size_));
}

void MappedFile::release() const {
  if (data_) ::madvise(const_cast<char*>(data_), static_cast<size_t>(size_), MADV_DONTNEED);
}

std::string in_quotes(std::string_view text) {
  constexpr size_t kLongest = 120;
  const bool cut = text.size() > kLongest;
  std::string json = Json(std::string(text.substr(0, kLongest))).dump(-1, ' ', false, Json::error_handler_t::replace);
  json.front() = json.back() = '\'';
  return cut ? json + "…" : json;
}

bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto byte = [&](size_t k) { return static_cast<unsigned char>(text[k]); };
    const unsigned char lead = byte(i);
    const size_t length = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
    if (length == 0 || length > text.size() - i) return false;
    uint32_t code = length == 1 ? lead : lead & (0x7f >> length);
    for (size_t k = i + 1; k < i + length; ++k) {
      if (byte(k) >> 6 != 2) return false;
      code = code << 6 | (byte(k) & 0x3f);
    }
    constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < kSmallest[length] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
    i += length;
  }
  return true;
}

void require_disk_room(const std::string& path, uint64_t bytes) {
  const uint64_t free = static_cast<uint64_t>(free_disk_space(path));
  if (free < bytes) {
    system_error(path, ": needs ", format_bytes(static_cast<int64_t>(bytes)), ", the disk has ",
                 format_bytes(static_cast<int64_t>(free)), " free; free some space or write elsewhere");
  }
}

}  // namespace molt::io
