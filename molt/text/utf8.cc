#include "molt/text/utf8.h"

#include <cstring>

namespace molt::text {

Utf8Char next_utf8(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const uint32_t first = byte(at);
  if (first < 0x80) return {first, 1, true, false};
  uint32_t size = 0, low = 0x80, high = 0xBF;  // low and high bound the second byte: no overlong forms, no surrogates
  if (first >= 0xC2 && first <= 0xDF) {
    size = 2;
  } else if (first >= 0xE0 && first <= 0xEF) {
    size = 3;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    size = 4;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  } else {
    return {0xFFFD, 1, false, false};
  }
  uint32_t code_point = first & (0xFFu >> (size + 1));
  for (uint32_t i = 1; i < size; ++i, low = 0x80, high = 0xBF) {
    if (at + i >= text.size()) return {0xFFFD, i, false, true};
    const uint32_t next = byte(at + i);
    if (next < low || next > high) return {0xFFFD, i, false, false};
    code_point = code_point << 6 | (next & 0x3F);
  }
  return {code_point, size, true, false};
}

void append_utf8(uint32_t c, std::string& out) {
  const auto put = [&](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6), put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 0x3F)), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  }
}

size_t find_invalid_utf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    while (at + 8 <= text.size()) {  // most text is ASCII: eight bytes at a time
      uint64_t word;
      std::memcpy(&word, text.data() + at, 8);
      if (word & 0x8080808080808080u) break;
      at += 8;
    }
    if (at == text.size()) break;
    const Utf8Char c = next_utf8(text, at);
    if (!c.valid) return at;
    at += c.size;
  }
  return text.size();
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  size_t at = 0;
  while (at < text.size()) {
    const size_t good = find_invalid_utf8(text.substr(at));
    out.append(text, at, good);
    at += good;
    if (at == text.size()) break;
    out += "\xEF\xBF\xBD";
    at += next_utf8(text, at).size;
  }
  return out;
}

}  // namespace molt::text
