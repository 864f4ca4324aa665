// TensorBoard event files: scalars over steps, for those who watch runs there.
// A file is a TFRecord stream (length, masked CRC32C, payload, masked CRC32C) of Event protobufs, which are few enough
// fields to be encoded by hand (tensorflow/core/lib/io/record_writer.h, core/util/event.proto,
// framework/summary.proto).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "molt/train/metrics_log.h"

namespace molt::train {

/// CRC-32C (Castagnoli polynomial 0x1EDC6F41, reflected) of bytes; "123456789" gives 0xE3069283.
uint32_t crc32c(std::string_view bytes);

/// The masking that TFRecord applies to its checksums: rotate right by 15 bits, add a constant.
uint32_t masked_crc32c(std::string_view bytes);

/// One TFRecord around a payload.
std::string tf_record(std::string_view payload);

/// Writes one event file. TensorBoard shows all event files of a directory as one run.
class EventWriter {
 public:
  /// Creates `directory`/events.out.tfevents.<time>.<host> (with a number appended where that exists; it never writes
  /// into an older file). `wall_time` is in seconds since 1970. Throws SystemError.
  EventWriter(const std::string& directory, double wall_time, const std::string& host);

  /// The same for a run that goes on after `last_step`: TensorBoard then drops what older files say of later steps.
  EventWriter(const std::string& directory, double wall_time, const std::string& host, int64_t last_step);

  EventWriter(const EventWriter&) = delete;
  EventWriter& operator=(const EventWriter&) = delete;
  ~EventWriter();

  /// Writes several scalars of one step as one event, flushed to the system. Values become f32. Throws SystemError.
  void scalars(int64_t step, double wall_time, const std::vector<std::pair<std::string, double>>& values);

  /// Writes a record of the run's log: train/loss, train/lr, train/grad_norm, train/tokens_per_second, train/epoch,
  /// train/memory_mib; an evaluation's values as NAME/VALUE ("eval/loss"). Notes have no place there and are left out.
  void record(const MetricsRecord& record, double wall_time);

  const std::string& path() const { return path_; }

 private:
  void append(std::string_view event);
  std::string path_;
  int fd_ = -1;
};

}  // namespace molt::train
