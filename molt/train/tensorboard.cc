#include "molt/train/tensorboard.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "molt/base/error.h"
#include "molt/base/file.h"

namespace molt::train {
namespace {

constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t rest = i;
    for (int bit = 0; bit < 8; ++bit) rest = (rest >> 1) ^ (rest & 1 ? 0x82F63B78u : 0u);
    table[i] = rest;
  }
  return table;
}

template <class T>
void put_little_endian(std::string& out, T value) {
  for (size_t i = 0; i < sizeof value; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
}

void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7f) | 0x80);
  out += static_cast<char>(value);
}

// Protobuf wire types.
constexpr int kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;

void put_tag(std::string& out, int field, int wire_type) {
  put_varint(out, static_cast<uint64_t>(field << 3 | wire_type));
}

void put_integer(std::string& out, int field, int64_t value) {
  put_tag(out, field, kVarint);
  put_varint(out, static_cast<uint64_t>(value));
}

void put_bytes(std::string& out, int field, std::string_view bytes) {
  put_tag(out, field, kBytes);
  put_varint(out, bytes.size());
  out += bytes;
}

void put_double(std::string& out, int field, double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  put_tag(out, field, kFixed64);
  put_little_endian(out, bits);
}

void put_float(std::string& out, int field, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  put_tag(out, field, kFixed32);
  put_little_endian(out, bits);
}

/// The fields every Event has: wall_time = 1, step = 2.
std::string event(double wall_time, int64_t step) {
  std::string out;
  put_double(out, 1, wall_time);
  put_integer(out, 2, step);
  return out;
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> kTable = crc_table();
  uint32_t crc = 0xffffffffu;
  for (const char c : bytes) crc = (crc >> 8) ^ kTable[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  return ~crc;
}

uint32_t masked_crc32c(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

std::string tf_record(std::string_view payload) {
  std::string out;
  put_little_endian(out, static_cast<uint64_t>(payload.size()));
  put_little_endian(out, masked_crc32c(out));
  out += payload;
  put_little_endian(out, masked_crc32c(payload));
  return out;
}

EventWriter::EventWriter(const std::string& directory, double wall_time, const std::string& host) {
  make_directories(directory);
  const std::string stem = str(directory, "/events.out.tfevents.", static_cast<int64_t>(wall_time), ".", host);
  for (int attempt = 0; fd_ < 0; ++attempt) {
    path_ = attempt == 0 ? stem : str(stem, ".", attempt);
    fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
    if (fd_ < 0 && errno != EEXIST) system_error(path_, ": cannot be created: ", std::strerror(errno));
  }
  std::string first = event(wall_time, 0);
  put_bytes(first, 3, "brain.Event:2");  // file_version
  append(first);
}

EventWriter::EventWriter(const std::string& directory, double wall_time, const std::string& host, int64_t last_step)
    : EventWriter(directory, wall_time, host) {
  std::string session, start = event(wall_time, last_step + 1);
  put_integer(session, 1, 1);    // SessionLog.status = START
  put_bytes(start, 7, session);  // session_log: steps from this one on begin anew
  append(start);
}

EventWriter::~EventWriter() {
  if (fd_ >= 0) ::close(fd_);
}

void EventWriter::scalars(int64_t step, double wall_time, const std::vector<std::pair<std::string, double>>& values) {
  std::string summary;
  for (const auto& [tag, number] : values) {
    std::string value;
    put_bytes(value, 1, tag);
    put_float(value, 2, static_cast<float>(number));  // simple_value
    put_bytes(summary, 1, value);
  }
  std::string out = event(wall_time, step);
  put_bytes(out, 5, summary);
  append(out);
}

void EventWriter::record(const MetricsRecord& record, double wall_time) {
  if (const auto* step = std::get_if<StepRecord>(&record)) {
    scalars(step->step, wall_time,
            {{"train/loss", step->loss},
             {"train/lr", step->lr},
             {"train/grad_norm", step->grad_norm},
             {"train/tokens_per_second", step->tokens_per_second},
             {"train/epoch", step->epoch},
             {"train/memory_mib", step->memory_mib}});
  } else if (const auto* eval = std::get_if<EvalRecord>(&record)) {
    std::vector<std::pair<std::string, double>> values;
    for (const auto& [name, value] : eval->values) values.emplace_back(eval->name + "/" + name, value);
    if (!values.empty()) scalars(eval->step, wall_time, values);
  }
}

void EventWriter::append(std::string_view event) {
  const std::string bytes = tf_record(event);
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::write(fd_, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) system_error(path_, ": cannot be written: ", std::strerror(errno));
    done += static_cast<size_t>(n);
  }
}

}  // namespace molt::train
