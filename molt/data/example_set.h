// Tokenised examples in memory, ready for batches.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "molt/data/batch.h"
#include "molt/data/encode.h"

namespace molt::data {

/// What happened to the examples on the way in.
struct ExampleReport {
  int64_t kept = 0;        ///< samples in the set
  int64_t dropped = 0;     ///< left out: longer than max_length
  int64_t truncated = 0;   ///< cut to max_length
  int64_t unlabelled = 0;  ///< left out: nothing left to learn after truncation
  int64_t longest = 0;     ///< tokens of the longest example before any cut
  int64_t tokens = 0;      ///< tokens kept
  int64_t labelled = 0;    ///< predictions that count, in one epoch
};

/// An example of n tokens is a segment of n-1 rows: row t reads token t and predicts token t+1 where that is learnt.
class ExampleSet final : public Source {
 public:
  /// Tokenises examples under the config's length policy; in several threads when the encoder allows it, with the same
  /// result. Throws UsageError at an example that is too long (on_long: error) or has nothing to learn. What was
  /// dropped or cut is counted in report() and said once through the log.
  ExampleSet(const std::vector<Example>& examples, const DataConfig& config, const Encoder& encoder, int threads = 1);

  int64_t size() const override { return static_cast<int64_t>(offsets_.size()) - 1; }
  int64_t rows(int64_t i) const override { return length(i) - 1; }
  void append(int64_t i, int64_t reserve, Batch& batch) const override;
  std::string where(int64_t i) const override { return where_[static_cast<size_t>(i)]; }
  uint64_t fingerprint() const override { return fingerprint_; }

  const ExampleReport& report() const { return report_; }
  /// Tokens of sample i.
  int64_t length(int64_t i) const { return offsets_[static_cast<size_t>(i) + 1] - offsets_[static_cast<size_t>(i)]; }

 private:
  void add(TokenExample tokens, const Example& example, const DataConfig& config, int64_t prefix_tokens);

  std::vector<int32_t> ids_;
  std::vector<uint8_t> learnt_;
  std::vector<int64_t> offsets_{0};
  std::vector<std::string> where_;
  ExampleReport report_;
  uint64_t fingerprint_ = 0;
};

}  // namespace molt::data
