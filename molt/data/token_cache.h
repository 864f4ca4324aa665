// Plain text, tokenised once in the background and kept.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "molt/data/encode.h"
#include "molt/data/line_reader.h"
#include "molt/data/token_file.h"

namespace molt::data {

/// The line that ends a document in a text file.
inline constexpr std::string_view kEndOfDocument = "<|endoftext|>";

/// Reads documents piece by piece. A document is the lines up to a line "<|endoftext|>" or the end of the file, joined
/// by LF, without blank lines at its start and end (others lose their white space); empty documents are skipped. Pieces
/// are cut only past `piece_bytes`, and only between a line that ends in a visible ASCII character and one that starts
/// with an ASCII letter or digit: there a pre-tokenizer of the GPT family cuts as well, so the ids are those of the
/// whole document.
class DocumentReader {
 public:
  explicit DocumentReader(std::vector<std::string> paths, size_t piece_bytes = size_t{1} << 20);
  /// The next piece, and whether it ends its document; false after the last one.
  bool next(std::string& piece, bool& ends_document);
  int64_t bytes_done() const { return before_ + (lines_ ? lines_->bytes_read() : 0); }

 private:
  std::vector<std::string> paths_;
  size_t piece_bytes_, file_ = 0;
  std::unique_ptr<LineReader> lines_;
  std::string held_;    // lines of the open document that were not given out
  int64_t blank_ = 0;   // blank lines after them
  bool begun_ = false;  // whether the open document has any piece or line
  int64_t before_ = 0;  // bytes of the files before this one
};

/// Throws UsageError where there is no such file, or a directory.
void check_text_file(const std::string& path);

struct TokenProgress {
  int64_t bytes_done = 0, bytes_total = 0, tokens = 0;
};

/// The tokens of text files: eos, then each document followed by eos. They are kept in cache_dir under a name that
/// depends on the files (path, size, time of change), the tokenizer's fingerprint and eos, so neither a changed file
/// nor a changed tokenizer ever meets old tokens.
class TokenCache {
 public:
  /// Takes the kept file where there is one; otherwise starts a thread that makes it. `progress` is called from that
  /// thread, about once per MiB; the last call has bytes_done = bytes_total. Throws UsageError at once when a file is
  /// missing or the encoder has no eos.
  TokenCache(const std::vector<std::string>& paths, Encoder encoder, const std::string& cache_dir,
             std::function<void(const TokenProgress&)> progress = {}, int threads = 1);
  /// Cancels what is not finished.
  ~TokenCache();

  /// Whether wait() would return (or throw) at once.
  bool ready() const { return ready_; }
  /// Whether the tokens were already there.
  bool reused() const { return reused_; }
  /// Waits for the tokens. Throws what the thread met: UsageError for bad text, SystemError for a full disk.
  std::shared_ptr<const TokenFile> wait();
  /// Asks the thread to stop; wait() then throws SystemError, and no file is left.
  void cancel() { cancelled_ = true; }

 private:
  void make(const std::vector<std::string>& paths, int64_t bytes_total, int threads);

  Encoder encoder_;
  std::function<void(const TokenProgress&)> progress_;
  std::string path_;
  uint64_t key_ = 0;
  bool reused_ = false;
  std::atomic<bool> ready_{false}, cancelled_{false};
  std::exception_ptr failure_;
  std::thread thread_;
};

}  // namespace molt::data
