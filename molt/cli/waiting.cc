// The environment is read when the runtime is loaded, so it takes a second start.
#include "molt/cli/waiting.h"

#include <unistd.h>

#include <cstdlib>

namespace molt::cli {

void limit_spinning(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT")) return;
  ::setenv("GOMP_SPINCOUNT", "20000", 1);  // about a tenth of a millisecond
  ::execv("/proc/self/exe", argv);         // comes back only where it fails: then threads spin for longer
}

}  // namespace molt::cli
