// Text as people type it where a shell or YAML keeps backslashes: "\n" for a line end, and so on.
#pragma once

#include <string>
#include <string_view>

namespace molt {

/// \n becomes a line feed, \t a tab, \\ a backslash; any other backslash stays.
inline std::string unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const char next = text[i] == '\\' && i + 1 < text.size() ? text[i + 1] : '\0';
    const char meant = next == 'n' ? '\n' : next == 't' ? '\t' : next == '\\' ? '\\' : '\0';
    out += meant ? meant : text[i];
    i += meant != '\0';
  }
  return out;
}

}  // namespace molt
