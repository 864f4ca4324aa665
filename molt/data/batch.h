// Batches: samples laid end to end in one flat stream, and the order in which they come. There is no padding.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "molt/base/json.h"
#include "molt/tensor/segments.h"

namespace molt::data {

/// The label of a row that predicts nothing.
inline constexpr int32_t kIgnored = -100;

/// T rows in one or more segments. A segment never sees another: states start afresh at each.
struct Batch {
  std::vector<int32_t> ids;       ///< (T) what each row reads
  std::vector<int32_t> labels;    ///< (T) what each row must predict (already shifted), or kIgnored
  Segments segments;              ///< the samples, in order
  std::vector<int64_t> examples;  ///< for each segment, which sample of the source it is (or is part of)
  int64_t labelled = 0;           ///< rows with a label: what a loss is divided by

  int64_t rows() const { return static_cast<int64_t>(ids.size()); }
  /// Adds one row to the open segment.
  void push(int32_t id, int32_t label) {
    ids.push_back(id), labels.push_back(label);
    labelled += label != kIgnored;
  }
  /// Ends the open segment, which belongs to sample `example`.
  void close(int64_t example);
};

/// Samples that batches are made of. Immutable, and safe to read from several threads.
class Source {
 public:
  virtual ~Source() = default;
  virtual int64_t size() const = 0;
  /// Rows that sample i takes in a batch.
  virtual int64_t rows(int64_t i) const = 0;
  /// Adds sample i to a batch as one or more closed segments; `reserve` ignored rows are put before each segment.
  virtual void append(int64_t i, int64_t reserve, Batch& batch) const = 0;
  /// Segments that sample i becomes, each of which takes the reserved rows.
  virtual int64_t segments(int64_t) const { return 1; }
  /// The place a sample comes from, for messages.
  virtual std::string where(int64_t i) const = 0;
  /// What a user may do where samples are too long.
  virtual std::string shorten() const { return "set data.max_length and data.on_long"; }
  /// A hash of everything that decides what the samples are.
  virtual uint64_t fingerprint() const = 0;
};

struct BatchOptions {
  int64_t batch_size = 0;        ///< most samples in a batch; 0 is no limit
  int64_t tokens_per_batch = 0;  ///< most rows in a batch; 0 is no limit. At least one of the two is set
  bool shuffle = true;           ///< a new order each epoch, by (seed, epoch); otherwise the source's order
  bool drop_last = false;        ///< leave out an epoch's last batch when batch_size is not reached
  uint64_t seed = 42;
  int64_t reserve = 0;  ///< rows before each segment that an edit fills (prompt tuning): id 0, no label
};

/// Where a stream stands: the next batch is `batch` of `epoch`.
struct Position {
  int64_t epoch = 0;
  int64_t batch = 0;
  bool operator==(const Position&) const = default;
};

/// Deals batches epoch after epoch. Samples go into a batch in (shuffled) order until the next one would not fit. Which
/// samples batch b of epoch e holds depends on the source, the options and (e, b) alone, never on what was asked
/// before.
class BatchStream {
 public:
  /// Throws UsageError when the source is empty, or a sample alone has more rows than tokens_per_batch.
  BatchStream(std::shared_ptr<const Source> source, BatchOptions options);

  /// The next batch; at the end of an epoch the next one begins.
  Batch next();
  /// Batch `index` of an epoch; does not move the stream.
  Batch at(int64_t epoch, int64_t index) const;

  /// Batches in an epoch. With tokens_per_batch it may differ by a few from epoch to epoch, as the order does.
  int64_t steps_per_epoch(int64_t epoch = 0) const;
  /// Batches in epochs 0 … epochs-1.
  int64_t steps_in(int64_t epochs) const;

  /// The position of the next batch. When an epoch has just ended, that is batch 0 of the next.
  Position position() const { return position_; }
  void seek(Position position);
  /// The position as a small JSON object, with a fingerprint of source and options.
  Json save() const;
  /// Goes where save() was called. Throws UsageError when the value is malformed, or the data or options are others.
  void restore(const Json& saved);

  const Source& source() const { return *source_; }
  const BatchOptions& options() const { return options_; }

 private:
  struct Plan {
    int64_t epoch = -1;
    std::vector<uint32_t> order;  // empty without shuffle
    std::vector<int64_t> starts;  // starts[b] is the first place in the order of batch b; one more at the end
  };
  /// Rows of sample i in a batch, the reserved ones included.
  int64_t rows_of(int64_t i) const;
  Plan make_plan(int64_t epoch) const;
  const Plan& plan(int64_t epoch) const;
  std::string fingerprint() const;

  std::shared_ptr<const Source> source_;
  BatchOptions options_;
  Position position_;
  mutable Plan plan_;  // the epoch last asked for
};

}  // namespace molt::data
