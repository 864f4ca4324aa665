// The environment is read when the runtime is loaded, so it takes a second start.
#include "molt/cli/waiting.h"

#include <unistd.h>

#include <climits>
#include <cstdlib>

namespace molt::cli {

void limit_spinning(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT")) return;
  ::setenv("GOMP_SPINCOUNT", "20000", 1);  // about a tenth of a millisecond
  // By its path: started as /proc/self/exe it would be listed as "exe".
  char path[PATH_MAX + 1];
  const ssize_t length = ::readlink("/proc/self/exe", path, PATH_MAX);
  if (length <= 0) return;
  path[length] = 0;
  ::execv(path, argv);  // comes back only where it fails: then threads spin for longer
}

}  // namespace molt::cli
