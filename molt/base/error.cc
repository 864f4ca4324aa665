#include "molt/base/error.h"

namespace molt::detail {

void check_failed(const char* file, int line, const std::string& message) {
  std::string name = file;
  const size_t at = name.rfind("molt/");
  if (at != std::string::npos) name = name.substr(at);
  throw InternalError(str(message, " (", name, ":", line, ")"));
}

}  // namespace molt::detail
