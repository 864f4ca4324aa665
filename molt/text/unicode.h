// What needs Unicode's tables: normalisation form C and two character classes. utf8proc is known to unicode.cc only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace molt::text {

/// True where text is surely in form C already: no character from U+0300 on (the first combining mark).
bool is_plainly_nfc(std::string_view text);

/// Normalisation form C of valid UTF-8. Throws SystemError when memory runs out.
std::string to_nfc(std::string_view text);

/// Unicode's White_Space.
bool is_space(uint32_t code_point);

/// A word character as regular expressions have it: letters, marks, decimal digits, connectors, joiners.
bool is_word(uint32_t code_point);

}  // namespace molt::text
