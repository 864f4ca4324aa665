// One sink for the library's messages; the program that uses the library decides where they go.
#pragma once

#include <functional>
#include <string>

#include "molt/base/str.h"

namespace molt {

enum class LogLevel { kInfo, kWarning };

using LogSink = std::function<void(LogLevel, const std::string&)>;

/// Replaces the sink and returns the previous one. The default drops everything.
LogSink set_log_sink(LogSink sink);

void log_message(LogLevel level, const std::string& message);

template <class... Args>
void log_info(const Args&... args) {
  log_message(LogLevel::kInfo, str(args...));
}
template <class... Args>
void log_warning(const Args&... args) {
  log_message(LogLevel::kWarning, str(args...));
}

}  // namespace molt
