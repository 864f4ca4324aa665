#include "molt/data/line_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "molt/base/error.h"

namespace molt::data {
namespace {

constexpr size_t kBlock = size_t{1} << 20;
constexpr size_t kMostLineBytes = size_t{1} << 30;

/// Length of the UTF-8 sequence that starts at p (with n bytes left), or 0 if it is not one.
size_t sequence_length(const unsigned char* p, size_t n) {
  auto follows = [&](size_t i) { return i < n && (p[i] & 0xC0) == 0x80; };
  if (p[0] < 0x80) return 1;
  if (p[0] < 0xC2) return 0;
  if (p[0] < 0xE0) return follows(1) ? 2 : 0;
  if (p[0] < 0xF0) {
    if (!follows(1) || !follows(2)) return 0;
    if (p[0] == 0xE0 && p[1] < 0xA0) return 0;   // overlong
    if (p[0] == 0xED && p[1] >= 0xA0) return 0;  // surrogate
    return 3;
  }
  if (p[0] > 0xF4 || !follows(1) || !follows(2) || !follows(3)) return 0;
  if (p[0] == 0xF0 && p[1] < 0x90) return 0;   // overlong
  if (p[0] == 0xF4 && p[1] >= 0x90) return 0;  // past U+10FFFF
  return 4;
}

}  // namespace

std::optional<size_t> find_invalid_utf8(std::string_view text) {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  size_t i = 0;
  while (i < text.size()) {
    uint64_t word;
    if (i + 8 <= text.size() && (std::memcpy(&word, p + i, 8), (word & 0x8080808080808080) == 0)) {
      i += 8;
      continue;
    }
    const size_t n = sequence_length(p + i, text.size() - i);
    if (n == 0) return i;
    i += n;
  }
  return std::nullopt;
}

LineReader::LineReader(std::string path) : path_(std::move(path)) {
  fd_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd_ < 0) usage_error(path_, ": cannot be read: ", std::strerror(errno));
  struct stat info {};
  const bool ok = ::fstat(fd_, &info) == 0;
  if (!ok || S_ISDIR(info.st_mode)) {
    ::close(fd_);
    usage_error(path_, ": expected a text file, found ", ok ? "a directory" : std::strerror(errno));
  }
  total_ = info.st_size;
}

LineReader::~LineReader() { ::close(fd_); }

std::string LineReader::where() const { return str(path_, ":", line_); }

bool LineReader::fill() {
  block_.resize(kBlock);
  at_ = 0;
  for (;;) {
    const ssize_t n = ::read(fd_, block_.data(), kBlock);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) usage_error(path_, ":", line_ + 1, ": cannot be read: ", std::strerror(errno));
    block_.resize(static_cast<size_t>(n));
    return n > 0;
  }
}

bool LineReader::next(std::string& line) {
  line.clear();
  bool ended = false, any = false;
  while (!ended) {
    if (at_ == block_.size() && !fill()) break;
    any = true;
    const char* begin = block_.data() + at_;
    const size_t left = block_.size() - at_;
    const void* newline = std::memchr(begin, '\n', left);
    const size_t n = newline ? static_cast<size_t>(static_cast<const char*>(newline) - begin) : left;
    line.append(begin, n);
    ended = newline != nullptr;
    at_ += n + (ended ? 1 : 0);
    consumed_ += static_cast<int64_t>(n) + (ended ? 1 : 0);
    // A line that goes on and on is no text, more often than not; that is said before memory is full of it.
    if (!ended && std::memchr(begin, '\0', n)) {
      ++line_;
      check(line);
    }
    if (line.size() > kMostLineBytes)
      usage_error(path_, ":", line_ + 1, ": expected a line of at most ", kMostLineBytes >> 20,
                  " MiB, found a longer one");
  }
  if (!any) return false;
  ++line_;
  crlf_ = ended && !line.empty() && line.back() == '\r';
  if (crlf_) line.pop_back();
  if (line_ == 1 && line.compare(0, 3, "\xEF\xBB\xBF") == 0) line.erase(0, 3);
  check(line);
  return true;
}

void LineReader::check(const std::string& line) const {
  if (line_ == 1 && (line.compare(0, 2, "\xFF\xFE") == 0 || line.compare(0, 2, "\xFE\xFF") == 0))
    usage_error(where(), ": expected UTF-8 text, found UTF-16 (save the file as UTF-8)");
  if (const size_t nul = line.find('\0'); nul != std::string::npos)
    usage_error(where(), ": expected text, found a NUL byte at byte ", nul + 1, " of the line (is it a binary file?)");
  if (const auto bad = find_invalid_utf8(line)) {
    static constexpr char kHex[] = "0123456789abcdef";
    const auto byte = static_cast<unsigned char>(line[*bad]);
    usage_error(where(), ": expected UTF-8 text, found byte 0x", kHex[byte >> 4], kHex[byte & 15], " at byte ",
                *bad + 1, " of the line");
  }
}

}  // namespace molt::data
