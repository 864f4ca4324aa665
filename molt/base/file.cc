#include "molt/base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "molt/base/error.h"

namespace molt {
namespace {

/// A file descriptor that closes itself.
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

/// What is read as a whole (recipes, configurations, tokenizers, logs) is far shorter.
constexpr int64_t kMostFileBytes = int64_t{1} << 30;

}  // namespace

std::string read_file(const std::string& path) {
  Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) usage_error(path, ": cannot be read: ", std::strerror(errno));
  struct stat info {};
  if (::fstat(file.fd, &info) != 0) usage_error(path, ": cannot be read: ", std::strerror(errno));
  if (S_ISDIR(info.st_mode)) usage_error(path, ": expected a file, found a directory");
  const auto refuse_size = [&] {
    usage_error(path, ": expected a file that fits into memory, found more than ", kMostFileBytes >> 20, " MiB");
  };
  if (info.st_size > kMostFileBytes) refuse_size();
  std::string bytes;
  bytes.reserve(static_cast<size_t>(info.st_size));
  char buffer[1 << 16];
  for (;;) {
    const ssize_t n = ::read(file.fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) usage_error(path, ": cannot be read: ", std::strerror(errno));
    if (n == 0) return bytes;
    bytes.append(buffer, static_cast<size_t>(n));
    if (static_cast<int64_t>(bytes.size()) > kMostFileBytes) refuse_size();  // it grows, or is a device
  }
}

void write_file_atomic(const std::string& path, std::string_view bytes) {
  write_file_atomic(path, [&](const ByteSink& sink) { sink(bytes.data(), bytes.size()); });
}

void write_file_atomic(const std::string& path, const std::function<void(const ByteSink&)>& write) {
  const std::string temporary = str(path, ".tmp.", ::getpid());
  auto fail = [&](const char* what) {
    const int cause = errno;
    ::unlink(temporary.c_str());
    system_error(path, ": ", what, ": ", std::strerror(cause));
  };
  {
    Descriptor file{::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)};
    if (file.fd < 0) fail("cannot be created");
    try {
      write([&](const void* data, size_t size) {
        const char* at = static_cast<const char*>(data);
        while (size > 0) {
          const ssize_t n = ::write(file.fd, at, size);
          if (n < 0 && errno == EINTR) continue;
          if (n < 0) fail("cannot be written");
          at += n;
          size -= static_cast<size_t>(n);
        }
      });
    } catch (...) {
      ::unlink(temporary.c_str());
      throw;
    }
    if (::fsync(file.fd) != 0) fail("cannot be synced");
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) fail("cannot be renamed into place");
  const std::string parent = std::filesystem::path(path).parent_path().string();
  sync_directory(parent.empty() ? "." : parent);
}

void sync_directory(const std::string& path) {
  Descriptor dir{::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (dir.fd >= 0) ::fsync(dir.fd);
}

void make_directories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) system_error(path, ": directory cannot be created: ", error.message());
}

}  // namespace molt
