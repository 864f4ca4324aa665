#include "molt/train/metrics_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>

#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/base/json.h"

namespace molt::train {
namespace {

OrderedJson number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return value;
}

/// Reads members of one record, with errors that name the line and the key.
class Members {
 public:
  Members(const Json& json, const std::string& where) : json_(json), where_(where) {
    if (!json.is_object()) usage_error(where, ": expected a JSON object per line");
  }

  const Json& at(const char* key) const {
    const auto found = json_.find(key);
    if (found == json_.end()) usage_error(where_, ": the record has no \"", key, "\"");
    return *found;
  }
  double number(const char* key) const { return number(at(key), key); }
  double number(const Json& value, const std::string& key) const {
    if (value.is_number()) return value.get<double>();
    if (value == "NaN") return std::numeric_limits<double>::quiet_NaN();
    if (value == "Infinity") return std::numeric_limits<double>::infinity();
    if (value == "-Infinity") return -std::numeric_limits<double>::infinity();
    usage_error(where_, ": \"", key, "\" is not a number");
  }
  int64_t integer(const char* key) const {
    const Json& value = at(key);
    const bool fits = value.is_number_unsigned()
                          ? value.get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()}
                          : value.is_number_integer();
    if (!fits) usage_error(where_, ": \"", key, "\" is not an integer");
    return value.get<int64_t>();
  }
  std::string text(const char* key) const {
    const Json& value = at(key);
    if (!value.is_string()) usage_error(where_, ": \"", key, "\" is not a string");
    return value.get<std::string>();
  }

 private:
  const Json& json_;
  const std::string& where_;
};

/// The whole lines of a log, without their breaks; a torn last one is dropped.
std::vector<std::string> whole_lines(const std::string& path) {
  const std::string bytes = read_file(path);
  std::vector<std::string> lines;
  for (size_t from = 0;;) {
    const size_t end = bytes.find('\n', from);
    if (end == std::string::npos) return lines;
    lines.push_back(bytes.substr(from, end - from));
    from = end + 1;
  }
}

std::string line_name(const std::string& path, size_t index) { return str(path, ":", index + 1); }

}  // namespace

int64_t step_of(const MetricsRecord& record) {
  return std::visit([](const auto& r) { return r.step; }, record);
}

std::string to_json_line(const MetricsRecord& record) {
  OrderedJson json;
  if (const auto* step = std::get_if<StepRecord>(&record)) {
    json["type"] = "step";
    json["step"] = step->step;
    json["epoch"] = number(step->epoch);
    json["loss"] = number(step->loss);
    json["lr"] = number(step->lr);
    json["grad_norm"] = number(step->grad_norm);
    json["tokens"] = step->tokens;
    json["labelled_tokens"] = step->labelled_tokens;
    json["tokens_per_second"] = number(step->tokens_per_second);
    json["seconds"] = number(step->seconds);
    json["memory_mib"] = number(step->memory_mib);
  } else if (const auto* eval = std::get_if<EvalRecord>(&record)) {
    json["type"] = "eval";
    json["step"] = eval->step;
    json["name"] = eval->name;
    json["values"] = OrderedJson::object();
    for (const auto& [name, value] : eval->values) json["values"][name] = number(value);
  } else {
    const auto& note = std::get<NoteRecord>(record);
    json["type"] = "note";
    json["step"] = note.step;
    json["text"] = note.text;
  }
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

MetricsRecord parse_metrics_line(const std::string& line, const std::string& where) {
  // Parsed in the order of the text: the values of an evaluation are shown in the order they were written.
  Json json;
  const OrderedJson ordered = [&] {
    json = parse_json(line, where);  // which says what is wrong, too deep nesting included
    return OrderedJson::parse(line);
  }();
  const Members members(json, where);
  const std::string type = members.text("type");
  if (type == "step") {
    StepRecord step;
    step.step = members.integer("step");
    step.epoch = members.number("epoch");
    step.loss = members.number("loss");
    step.lr = members.number("lr");
    step.grad_norm = members.number("grad_norm");
    step.tokens = members.integer("tokens");
    step.labelled_tokens = members.integer("labelled_tokens");
    step.tokens_per_second = members.number("tokens_per_second");
    step.seconds = members.number("seconds");
    step.memory_mib = members.number("memory_mib");
    return step;
  }
  if (type == "eval") {
    EvalRecord eval{members.integer("step"), members.text("name"), {}};
    if (!members.at("values").is_object()) usage_error(where, ": \"values\" is not an object");
    for (const auto& [name, value] : ordered["values"].items())
      eval.values.emplace_back(name, members.number(value, name));
    return eval;
  }
  if (type == "note") return NoteRecord{members.integer("step"), members.text("text")};
  usage_error(where, ": unknown record type \"", type, "\"; expected step, eval or note");
}

std::vector<MetricsRecord> read_metrics(const std::string& path) {
  std::vector<MetricsRecord> records;
  const std::vector<std::string> lines = whole_lines(path);
  for (size_t i = 0; i < lines.size(); ++i) records.push_back(parse_metrics_line(lines[i], line_name(path, i)));
  return records;
}

MetricsLog MetricsLog::start(const std::string& path) { return MetricsLog(path, O_TRUNC); }

MetricsLog MetricsLog::resume(const std::string& path, int64_t last_step, int64_t bytes) {
  if (std::filesystem::exists(path)) {
    std::string kept;
    const std::vector<std::string> lines = whole_lines(path);
    for (size_t i = 0; i < lines.size(); ++i) {
      if (static_cast<int64_t>(kept.size() + lines[i].size()) >= bytes) break;
      if (step_of(parse_metrics_line(lines[i], line_name(path, i))) <= last_step) kept += lines[i] + '\n';
    }
    write_file_atomic(path, kept);
  }
  return MetricsLog(path, 0);
}

MetricsLog::MetricsLog(std::string path, int flags) : path_(std::move(path)) {
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | flags, 0644);
  if (fd_ < 0) system_error(path_, ": cannot be opened for writing: ", std::strerror(errno));
}

MetricsLog::MetricsLog(MetricsLog&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

MetricsLog& MetricsLog::operator=(MetricsLog&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  return *this;
}

MetricsLog::~MetricsLog() {
  if (fd_ >= 0) ::close(fd_);
}

void MetricsLog::write(const MetricsRecord& record) {
  const std::string line = to_json_line(record) + '\n';
  size_t done = 0;
  while (done < line.size()) {
    const ssize_t n = ::write(fd_, line.data() + done, line.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) system_error(path_, ": cannot be written: ", std::strerror(errno));
    done += static_cast<size_t>(n);
  }
}

int64_t MetricsLog::size() const {
  struct stat info {};
  if (::fstat(fd_, &info) != 0) system_error(path_, ": its size cannot be told: ", std::strerror(errno));
  return info.st_size;
}

void MetricsLog::sync() {
  if (::fsync(fd_) != 0 && errno != EINVAL)  // EINVAL: a pipe or a device, nothing to wait for
    system_error(path_, ": cannot be synced: ", std::strerror(errno));
}

}  // namespace molt::train
