// Event files, read back by a parser of TFRecord and protobuf that shares nothing with the writer but the format.
#include "molt/train/tensorboard.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>

#include "molt/base/error.h"
#include "molt/base/file.h"
#include "tests/train/temporary.h"

namespace molt::train {
namespace {

/// CRC-32C bit by bit from its definition, unlike the writer's table.
uint32_t slow_crc32c(const std::string& bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) {
    crc ^= static_cast<unsigned char>(c);
    for (int i = 0; i < 8; ++i) crc = crc & 1 ? crc >> 1 ^ 0x82F63B78u : crc >> 1;
  }
  return ~crc;
}

uint32_t unmask(uint32_t masked) {
  const uint32_t rotated = masked - 0xa282ead8u;
  return rotated >> 17 | rotated << 15;
}

template <class T>
T load(const std::string& bytes, size_t at) {
  T value;
  EXPECT_LE(at + sizeof value, bytes.size());
  std::memcpy(&value, bytes.data() + at, sizeof value);  // tests run on little-endian machines
  return value;
}

/// The payloads of a TFRecord stream; checks both checksums of each.
std::vector<std::string> payloads(const std::string& bytes) {
  std::vector<std::string> out;
  for (size_t at = 0; at < bytes.size();) {
    const auto length = static_cast<size_t>(load<uint64_t>(bytes, at));
    EXPECT_EQ(unmask(load<uint32_t>(bytes, at + 8)), slow_crc32c(bytes.substr(at, 8)));
    out.push_back(bytes.substr(at + 12, length));
    EXPECT_EQ(out.back().size(), length);
    EXPECT_EQ(unmask(load<uint32_t>(bytes, at + 12 + length)), slow_crc32c(out.back()));
    at += 16 + length;
  }
  return out;
}

struct Field {
  int number, wire;
  uint64_t integer = 0;  // also the bits of fixed32 and fixed64
  std::string bytes;
};

std::vector<Field> parse(const std::string& message) {
  size_t at = 0;
  auto varint = [&] {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(message.at(at++));
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
  };
  std::vector<Field> fields;
  while (at < message.size()) {
    const uint64_t tag = varint();
    Field field{static_cast<int>(tag >> 3), static_cast<int>(tag & 7), 0, ""};
    if (field.wire == 0) field.integer = varint();
    if (field.wire == 1) field.integer = load<uint64_t>(message, at), at += 8;
    if (field.wire == 5) field.integer = load<uint32_t>(message, at), at += 4;
    if (field.wire == 2) {
      const auto size = static_cast<size_t>(varint());
      field.bytes = message.substr(at, size);
      at += size;
    }
    fields.push_back(field);
  }
  return fields;
}

struct Event {
  double wall_time = 0;
  int64_t step = 0;
  std::string version;
  int64_t session_status = 0;
  std::map<std::string, float> scalars;
};

std::vector<Event> read_events(const std::string& path) {
  std::vector<Event> events;
  for (const std::string& payload : payloads(read_file(path))) {
    Event event;
    for (const Field& field : parse(payload)) {
      if (field.number == 1) std::memcpy(&event.wall_time, &field.integer, 8);
      if (field.number == 2) event.step = static_cast<int64_t>(field.integer);
      if (field.number == 3) event.version = field.bytes;
      if (field.number == 7) event.session_status = static_cast<int64_t>(parse(field.bytes).at(0).integer);
      if (field.number != 5) continue;
      for (const Field& value : parse(field.bytes)) {
        const std::vector<Field> parts = parse(value.bytes);
        EXPECT_EQ(parts.at(0).number, 1);
        EXPECT_EQ(parts.at(1).number, 2);
        const auto bits = static_cast<uint32_t>(parts.at(1).integer);
        float number;
        std::memcpy(&number, &bits, 4);
        event.scalars[parts.at(0).bytes] = number;
      }
    }
    events.push_back(event);
  }
  return events;
}

TEST(TensorBoard, Crc32cKnownVectors) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);            // the check value of CRC-32/ISCSI
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43u);
  EXPECT_EQ(crc32c(""), 0u);
}

TEST(TensorBoard, EventsReadBack) {
  TemporaryDirectory dir;
  EventWriter writer(dir.path(), 1740830400.5, "host");
  EXPECT_EQ(writer.path(), dir / "events.out.tfevents.1740830400.host");
  StepRecord step;
  step.step = 300;  // two bytes as a varint
  step.loss = 0.625;
  step.lr = 2e-4;
  writer.record(step, 1740830401);
  writer.record(EvalRecord{301, "eval", {{"loss", 0.5}, {"bleu", std::nan("")}}}, 1740830402);
  writer.record(NoteRecord{302, "left out"}, 1740830403);
  const std::vector<Event> events = read_events(writer.path());
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].version, "brain.Event:2");
  EXPECT_EQ(events[0].wall_time, 1740830400.5);
  EXPECT_EQ(events[1].step, 300);
  EXPECT_EQ(events[1].wall_time, 1740830401);
  EXPECT_EQ(events[1].scalars.at("train/loss"), 0.625f);
  EXPECT_EQ(events[1].scalars.at("train/lr"), 2e-4f);
  EXPECT_EQ(events[2].step, 301);
  EXPECT_EQ(events[2].scalars.at("eval/loss"), 0.5f);
  EXPECT_TRUE(std::isnan(events[2].scalars.at("eval/bleu")));
}

TEST(TensorBoard, ResumedRunsGetTheirOwnFileAndASessionStart) {
  TemporaryDirectory dir;
  EventWriter first(dir.path(), 1000, "host");
  EventWriter second(dir.path(), 1000, "host", 41);
  EXPECT_EQ(second.path(), dir / "events.out.tfevents.1000.host.1");
  const std::vector<Event> events = read_events(second.path());
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1].session_status, 1);
  EXPECT_EQ(events[1].step, 42);
  EXPECT_EQ(read_events(first.path()).size(), 1u);
}

TEST(TensorBoard, UnusableDirectoryIsASystemError) {
  TemporaryDirectory dir;
  write_file_atomic(dir / "file", "x");
  EXPECT_THROW(EventWriter(dir / "file", 0, "host"), SystemError);
}

}  // namespace
}  // namespace molt::train
