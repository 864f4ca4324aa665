// Builds strings from values, for error messages and labels.
#pragma once

#include <sstream>
#include <string>
#include <vector>

namespace molt {

namespace detail {
template <class T>
void put(std::ostream& out, const T& value) {
  out << value;
}
template <class T>
void put(std::ostream& out, const std::vector<T>& values) {
  out << '[';
  for (size_t i = 0; i < values.size(); ++i) out << (i ? ", " : "") << values[i];
  out << ']';
}
}  // namespace detail

/// Writes every argument after the other: str("have ", 3, " of ", dims) -> "have 3 of [4, 5]".
template <class... Args>
std::string str(const Args&... args) {
  std::ostringstream out;
  (detail::put(out, args), ...);
  return out.str();
}

}  // namespace molt
