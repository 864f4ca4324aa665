// The three kinds of failure: the user's input, the machine, ourselves. The library throws them and never prints,
// aborts or exits; cli/main.cc turns them into one line and exit codes 2, 1 and 70.
#pragma once

#include <stdexcept>
#include <string>

#include "molt/base/str.h"

namespace molt {

/// What the user gave cannot be used: a path, an option, a file. Says what was expected, what came, what to do.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The machine refused: disk, memory, a device.
class SystemError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A promise inside Molt was broken: a bug.
class InternalError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

namespace detail {
[[noreturn]] void check_failed(const char* file, int line, const std::string& message);
}

/// Throws UsageError with the arguments joined as by str().
template <class... Args>
[[noreturn]] void usage_error(const Args&... args) {
  throw UsageError(str(args...));
}

/// Throws SystemError with the arguments joined as by str().
template <class... Args>
[[noreturn]] void system_error(const Args&... args) {
  throw SystemError(str(args...));
}

}  // namespace molt

/// Throws InternalError with the message unless the condition holds. The message starts with the op or function.
#define MOLT_CHECK(condition, ...) \
  ((condition) ? void(0) : ::molt::detail::check_failed(__FILE__, __LINE__, ::molt::str(__VA_ARGS__)))
