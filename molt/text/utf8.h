// UTF-8 by hand: stepping over characters, finding the first byte that is not UTF-8, replacing what is not.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace molt::text {

/// One character, or the longest prefix of one that is broken or cut off (then one U+FFFD stands for its `size` bytes,
/// as the Unicode standard and Rust's from_utf8_lossy have it).
struct Utf8Char {
  uint32_t code_point = 0xFFFD;
  uint32_t size = 1;
  bool valid = false;
  bool cut_off = false;  ///< not valid, but more bytes at the end of the text could make it so
};

/// The character at byte `at`, which must lie inside `text`.
Utf8Char next_utf8(std::string_view text, size_t at);

/// Appends one code point below U+110000.
void append_utf8(uint32_t code_point, std::string& out);

/// The offset of the first byte that is not UTF-8, or text.size().
size_t find_invalid_utf8(std::string_view text);

/// The text with U+FFFD for every part that is not UTF-8.
std::string replace_invalid_utf8(std::string_view text);

}  // namespace molt::text
