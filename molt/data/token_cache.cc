#include "molt/data/token_cache.h"

#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iomanip>
#include <sstream>
#include <utility>

#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/base/log.h"
#include "molt/base/rng.h"

namespace molt::data {
namespace {

constexpr int kCacheVersion = 1;

bool is_blank(const std::string& line) { return line.find_first_not_of(" \t\r") == std::string::npos; }

bool is_end_of_document(const std::string& line) {
  const size_t begin = line.find_first_not_of(" \t\r");
  return begin != std::string::npos && line.compare(begin, kEndOfDocument.size(), kEndOfDocument) == 0 &&
         line.find_first_not_of(" \t\r", begin + kEndOfDocument.size()) == std::string::npos;
}

struct stat stat_of(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) usage_error(path, ": cannot be read: ", std::strerror(errno));
  if (S_ISDIR(info.st_mode)) usage_error(path, ": expected a text file, found a directory");
  return info;
}

std::string hex(uint64_t value) {
  std::ostringstream out;
  out << std::hex << std::setw(16) << std::setfill('0') << value;
  return out.str();
}

}  // namespace

void check_text_file(const std::string& path) { stat_of(path); }

DocumentReader::DocumentReader(std::vector<std::string> paths, size_t piece_bytes)
    : paths_(std::move(paths)), piece_bytes_(piece_bytes) {}

bool DocumentReader::next(std::string& piece, bool& ends_document) {
  auto give = [&](bool ends) {
    piece = std::move(held_);
    held_.clear();
    ends_document = ends;
    blank_ = 0;
    if (ends) begun_ = false;
    return true;
  };
  std::string line;
  for (;;) {
    if (!lines_) {
      if (file_ == paths_.size()) return false;
      lines_ = std::make_unique<LineReader>(paths_[file_++]);
    }
    if (!lines_->next(line)) {
      before_ += lines_->bytes_read();
      lines_.reset();
      if (begun_) return give(true);
      continue;
    }
    if (is_end_of_document(line)) {
      if (begun_) return give(true);
      blank_ = 0;
      continue;
    }
    if (is_blank(line)) {
      blank_ += begun_;
      continue;
    }
    const bool cut = held_.size() >= piece_bytes_ && blank_ == 0 &&
                     std::isgraph(static_cast<unsigned char>(held_.back())) &&
                     std::isalnum(static_cast<unsigned char>(line[0]));
    if (cut) {
      held_ += '\n';
      give(false);
      held_ = std::move(line);
      return true;
    }
    if (begun_) held_.append(static_cast<size_t>(blank_) + 1, '\n');
    held_ += line;
    begun_ = true;
    blank_ = 0;
  }
}

TokenCache::TokenCache(const std::vector<std::string>& paths, Encoder encoder, const std::string& cache_dir,
                       std::function<void(const TokenProgress&)> progress, int threads)
    : encoder_(std::move(encoder)), progress_(std::move(progress)) {
  MOLT_CHECK(!encoder_.fingerprint.empty(), "token cache: the encoder has no fingerprint");
  MOLT_CHECK(!paths.empty(), "token cache: no files");
  if (encoder_.eos < 0) usage_error(paths[0], ": training on plain text needs a tokenizer with an end-of-text token");
  std::ostringstream identity;
  identity << kCacheVersion << '\n'
           << encoder_.fingerprint << '\n'
           << encoder_.eos << '\n'
           << encoder_.vocab_size << '\n';
  int64_t bytes_total = 0;
  for (const auto& path : paths) {
    const struct stat info = stat_of(path);
    identity << std::filesystem::absolute(path).lexically_normal().string() << '\n'
             << info.st_size << '\n'
             << info.st_mtim.tv_sec << '.' << info.st_mtim.tv_nsec << '\n';
    bytes_total += info.st_size;
  }
  key_ = hash_name(identity.str());
  make_directories(cache_dir);
  path_ = (std::filesystem::path(cache_dir) /
           (std::filesystem::path(paths[0]).stem().string() + "-" + hex(key_) + ".tokens"))
              .string();
  if (std::filesystem::exists(path_)) {
    try {
      reused_ = TokenFile(path_).info().key == key_;
    } catch (const UsageError& e) {
      log_warning(e.what(), " (it is made again)");
    }
  }
  ready_ = reused_;
  if (reused_) return;
  thread_ = std::thread([this, paths, bytes_total, threads] {
    try {
      make(paths, bytes_total, threads);
    } catch (...) {
      failure_ = std::current_exception();
    }
    ready_ = true;
  });
}

TokenCache::~TokenCache() {
  cancel();
  if (thread_.joinable()) thread_.join();
}

std::shared_ptr<const TokenFile> TokenCache::wait() {
  if (thread_.joinable()) thread_.join();
  if (failure_) std::rethrow_exception(failure_);
  return std::make_shared<TokenFile>(path_);
}

void TokenCache::make(const std::vector<std::string>& paths, int64_t bytes_total, int threads) {
  struct Piece {
    std::string text;
    bool ends = false;
    std::vector<int32_t> ids;
  };
  const size_t workers = encoder_.thread_safe ? static_cast<size_t>(std::max(threads, 1)) : 1;
  write_token_file(path_, key_, encoder_.vocab_size, [&](const TokenSink& sink) {
    DocumentReader reader(paths);
    TokenProgress done{0, bytes_total, 1};
    int64_t documents = 0;
    sink({encoder_.eos}, false);
    for (bool more = true; more;) {
      std::vector<Piece> round;
      for (size_t bytes = 0; more && bytes < workers << 20;) {
        Piece piece;
        more = reader.next(piece.text, piece.ends);
        bytes += piece.text.size();
        if (more) round.push_back(std::move(piece));
      }
      std::vector<std::exception_ptr> failures(workers);
      std::atomic<size_t> next{0};
      auto work = [&](size_t worker) {
        try {
          for (size_t i = next++; i < round.size() && !cancelled_; i = next++)
            round[i].ids = encoder_.encode(round[i].text);
        } catch (...) {
          failures[worker] = std::current_exception();
        }
      };
      std::vector<std::thread> pool;
      for (size_t w = 1; w < workers; ++w) pool.emplace_back(work, w);
      work(0);
      for (auto& thread : pool) thread.join();
      if (cancelled_) system_error("tokenising ", paths[0], " was cancelled");
      for (const auto& failure : failures)
        if (failure) std::rethrow_exception(failure);
      for (Piece& piece : round) {
        if (piece.ends) piece.ids.push_back(encoder_.eos);
        sink(piece.ids, piece.ends);
        done.tokens += static_cast<int64_t>(piece.ids.size());
        documents += piece.ends;
      }
      done.bytes_done = more ? std::min(reader.bytes_done(), bytes_total) : bytes_total;
      if (more && progress_) progress_(done);
    }
    if (documents == 0) usage_error(paths[0], ": expected text, found nothing but blank lines");
    if (progress_) progress_(done);
  });
}

}  // namespace molt::data
