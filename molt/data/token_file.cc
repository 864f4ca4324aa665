#include "molt/data/token_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/base/rng.h"

namespace molt::data {
namespace {

constexpr std::string_view kMagic = "MOLTTOK1";
constexpr size_t kTrailer = 64;
using Trailer = std::array<unsigned char, kTrailer>;

void put_word(Trailer& t, size_t word, uint64_t value) {
  for (size_t b = 0; b < 8; ++b) t[8 * word + b] = static_cast<unsigned char>(value >> (8 * b));
}
uint64_t get_word(const unsigned char* t, size_t word) {
  uint64_t value = 0;
  for (size_t b = 0; b < 8; ++b) value |= uint64_t{t[8 * word + b]} << (8 * b);
  return value;
}
uint64_t checksum(const unsigned char* trailer) {
  return hash_name(std::string_view(reinterpret_cast<const char*>(trailer), kTrailer - 8));
}

}  // namespace

TokenFile::TokenFile(const std::string& path) : path_(path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) usage_error(path, ": cannot be read: ", std::strerror(errno));
  struct stat info {};
  const bool ok = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size >= static_cast<off_t>(kTrailer);
  bytes_ = ok ? static_cast<size_t>(info.st_size) : 0;
  void* map = ok ? ::mmap(nullptr, bytes_, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
  const int cause = errno;
  ::close(fd);
  if (!ok) usage_error(path, ": expected a token file, found something shorter");
  if (map == MAP_FAILED) system_error(path, ": cannot be mapped: ", std::strerror(cause));
  map_ = static_cast<const unsigned char*>(map);
  const unsigned char* t = map_ + bytes_ - kTrailer;
  width_ = static_cast<int64_t>(get_word(t, 1));
  info_ = {get_word(t, 2), static_cast<int64_t>(get_word(t, 3)), static_cast<int64_t>(get_word(t, 4)),
           static_cast<int32_t>(get_word(t, 5))};
  const bool sound = std::memcmp(t, kMagic.data(), kMagic.size()) == 0 && get_word(t, 7) == checksum(t) &&
                     (width_ == 2 || width_ == 4) && (bytes_ - kTrailer) % static_cast<size_t>(width_) == 0 &&
                     static_cast<uint64_t>(info_.tokens) == (bytes_ - kTrailer) / static_cast<size_t>(width_);
  if (!sound) {
    ::munmap(const_cast<unsigned char*>(map_), bytes_);
    usage_error(path, ": expected a token file of this version, found a damaged or foreign one; delete it");
  }
}

TokenFile::~TokenFile() { ::munmap(const_cast<unsigned char*>(map_), bytes_); }

int32_t TokenFile::operator[](int64_t i) const {
  MOLT_CHECK(i >= 0 && i < info_.tokens, "token file: no token ", i, " of ", info_.tokens);
  const unsigned char* p = map_ + i * width_;
  uint32_t id = p[0] | uint32_t{p[1]} << 8;
  if (width_ == 4) id |= uint32_t{p[2]} << 16 | uint32_t{p[3]} << 24;
  if (id > static_cast<uint32_t>(info_.max_id))
    usage_error(path_, ": token ", i, " is ", id, ", past the largest of the file (", info_.max_id,
                "); delete the file");
  return static_cast<int32_t>(id);
}

void write_token_file(const std::string& path, uint64_t key, int64_t vocab_size,
                      const std::function<void(const TokenSink&)>& write) {
  const size_t width = vocab_size > 0 && vocab_size <= 65536 ? 2 : 4;
  const int64_t limit = vocab_size > 0 ? vocab_size : INT32_MAX;
  write_file_atomic(path, [&](const ByteSink& bytes) {
    TokenFileInfo info;
    std::vector<unsigned char> buffer;
    write([&](const std::vector<int32_t>& ids, bool ends_document) {
      buffer.resize(ids.size() * width);
      unsigned char* out = buffer.data();
      for (const int32_t id : ids) {
        if (id < 0 || id >= limit) usage_error("tokenizer: gave the id ", id, ", expected one in [0, ", limit, ")");
        for (size_t b = 0; b < width; ++b) *out++ = static_cast<unsigned char>(static_cast<uint32_t>(id) >> (8 * b));
        info.max_id = std::max(info.max_id, id);
      }
      info.tokens += static_cast<int64_t>(ids.size());
      info.documents += ends_document;
      if (!buffer.empty()) bytes(buffer.data(), buffer.size());
    });
    Trailer t{};
    std::copy(kMagic.begin(), kMagic.end(), t.begin());
    put_word(t, 1, width);
    put_word(t, 2, key);
    put_word(t, 3, static_cast<uint64_t>(info.tokens));
    put_word(t, 4, static_cast<uint64_t>(info.documents));
    put_word(t, 5, static_cast<uint64_t>(info.max_id));
    put_word(t, 7, checksum(t.data()));
    bytes(t.data(), t.size());
  });
}

}  // namespace molt::data
