// Reads a text file line by line: any line length, either line ending, an optional byte order mark, and a clear refusal
// of what is not UTF-8 text.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace molt::data {

/// Where the first byte stands that is not part of valid UTF-8 (overlong forms, surrogates and code points past
/// U+10FFFF are not valid), or none.
std::optional<size_t> find_invalid_utf8(std::string_view text);

/// Streams the lines of one file. Memory is one block plus the longest line.
class LineReader {
 public:
  /// Opens the file. Throws UsageError when it is missing, a directory or unreadable.
  explicit LineReader(std::string path);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  /// Puts the next line, without its ending (LF or CR LF), into `line`; false at the end of the file. A last line
  /// without an ending counts; an empty file has no lines. A byte order mark at the start is dropped.
  /// Throws UsageError with file and line for a NUL byte, invalid UTF-8 and a line of more than 1 GiB.
  bool next(std::string& line);

  /// The number of the line last read, from 1.
  int64_t line() const { return line_; }
  /// "path:line" of the line last read.
  std::string where() const;
  /// Whether the line last read ended in CR LF.
  bool ended_in_crlf() const { return crlf_; }
  /// Bytes of the file handed out so far.
  int64_t bytes_read() const { return consumed_; }
  /// Size of the file in bytes when it was opened.
  int64_t bytes_total() const { return total_; }
  const std::string& path() const { return path_; }

 private:
  bool fill();
  void check(const std::string& line) const;

  std::string path_;
  int fd_ = -1;
  std::string block_;
  size_t at_ = 0;
  int64_t line_ = 0, consumed_ = 0, total_ = 0;
  bool crlf_ = false;
};

}  // namespace molt::data
