#include "molt/base/log.h"

#include <utility>

namespace molt {
namespace {

LogSink& current_sink() {
  static LogSink sink;
  return sink;
}

}  // namespace

LogSink set_log_sink(LogSink sink) { return std::exchange(current_sink(), std::move(sink)); }

void log_message(LogLevel level, const std::string& message) {
  if (current_sink()) current_sink()(level, message);
}

}  // namespace molt
