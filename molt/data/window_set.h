// Windows of a long stream of tokens, for training a language model on plain text.
#pragma once

#include <memory>
#include <string>

#include "molt/data/batch.h"
#include "molt/data/token_file.h"

namespace molt::data {

/// Window i reads tokens [begin + i L, begin + (i+1) L) and each row predicts the token after it, so windows share no
/// row and every token but the first is predicted once. The last window may be shorter.
class WindowSet final : public Source {
 public:
  struct Options {
    int64_t begin = 0, end = 0;      ///< tokens [begin, end) of the file
    int64_t segment_length = 512;    ///< L
    bool reset_at_documents = true;  ///< a window is cut into segments before each eos, which thus starts its document
    int32_t eos = -1;
    std::string text = {};  ///< what the tokens are of, for messages
  };
  /// Throws UsageError when the range has fewer than 2 tokens.
  WindowSet(std::shared_ptr<const TokenFile> tokens, Options options);

  int64_t size() const override { return (options_.end - 2 - options_.begin) / options_.segment_length + 1; }
  int64_t rows(int64_t i) const override;
  int64_t segments(int64_t i) const override;
  void append(int64_t i, int64_t reserve, Batch& batch) const override;
  std::string where(int64_t i) const override;
  std::string shorten() const override { return "lower data.segment_length"; }
  uint64_t fingerprint() const override;

 private:
  bool cut_before(int64_t token) const;

  std::shared_ptr<const TokenFile> tokens_;
  Options options_;
};

/// Where to split a stream so that about `share` of it comes after: at the first eos from there on, or exactly there
/// when none follows.
int64_t split_point(const TokenFile& tokens, double share, int32_t eos);

}  // namespace molt::data
