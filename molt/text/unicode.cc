#include "molt/text/unicode.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

#include "molt/base/error.h"

namespace molt::text {

namespace {

bool is_ascii(char c) { return static_cast<unsigned char>(c) < 0x80; }

void append_nfc(std::string_view text, std::string& out) {
  utf8proc_uint8_t* normal = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &normal, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(normal, &std::free);
  if (size < 0) system_error("normalising text: ", utf8proc_errmsg(size));
  out.append(reinterpret_cast<const char*>(normal), static_cast<size_t>(size));
}

}  // namespace

bool is_plainly_nfc(std::string_view text) {
  for (const unsigned char byte : text)
    if (byte >= 0xCC) return false;  // the lead bytes below 0xCC begin characters below U+0300
  return true;
}

std::string to_nfc(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  // Nothing composes with an ASCII character on its left, so text falls apart before each of them: only stretches of
  // one ASCII character and what is not ASCII need the tables, and only if a character from U+0300 on is in them. Text
  // falls apart before U+11A7 too, one below the trailing consonants of Hangul; utf8proc 2.x takes it for one and drops
  // it.
  constexpr std::string_view kBeforeTrailing = "\xE1\x86\xA7";
  size_t begin = 0;
  while (begin < text.size()) {
    size_t end = begin + 1;
    while (end < text.size() && !is_ascii(text[end]) && text.compare(end, 3, kBeforeTrailing) != 0) ++end;
    const std::string_view stretch = text.substr(begin, end - begin);
    if (is_plainly_nfc(stretch)) {
      out.append(stretch);
    } else {
      append_nfc(stretch, out);
    }
    begin = end;
  }
  return out;
}

bool is_space(uint32_t c) {
  return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_word(uint32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      // Joiners, and the circled and squared letters, which are alphabetic symbols.
      return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
             (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
  }
}

}  // namespace molt::text
