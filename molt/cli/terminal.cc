#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>

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

}  // namespace molt::cli
