#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "molt/base/error.h"
#include "molt/cli/verbs.h"

namespace molt::cli {

Terminal terminal() {
  Terminal t;
  t.tty = ::isatty(STDERR_FILENO) == 1;
  winsize size{};
  if (t.tty && ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) t.width = size.ws_col;
  return t;
}

void to_stderr(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

void to_stdout(std::string_view text) {
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return;
  if (errno == EPIPE) throw CLI::RuntimeError(141);  // 128 + SIGPIPE, as a shell would say
  system_error("standard output: ", std::strerror(errno));
}

bool LineInput::tty() const { return ::isatty(STDIN_FILENO) == 1; }

std::optional<std::string> LineInput::next(const std::atomic<bool>& stop) {
  for (;;) {
    const size_t end = held_.find('\n');
    if (end != std::string::npos || (ended_ && !held_.empty())) {
      std::string line = held_.substr(0, end);
      held_.erase(0, end == std::string::npos ? end : end + 1);
      if (!line.empty() && line.back() == '\r') line.pop_back();
      return line;
    }
    if (ended_ || stop) return std::nullopt;
    // In slices, so that a signal that comes just before the wait is seen too.
    pollfd input{STDIN_FILENO, POLLIN, 0};
    if (::poll(&input, 1, 200) <= 0) continue;
    char bytes[4096];
    const ssize_t got = ::read(STDIN_FILENO, bytes, sizeof bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) system_error("standard input: ", std::strerror(errno));
    ended_ = got == 0;
    held_.append(bytes, static_cast<size_t>(got));
  }
}

}  // namespace molt::cli
