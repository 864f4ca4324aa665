#include "molt/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <new>

#include "molt/base/error.h"
#include "molt/text/utf8.h"

namespace molt::text {

namespace {

// PCRE2 counts U+180E among spaces, Unicode no longer does.
constexpr const char* kSpaces =
    "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}";
// PCRE2's \w has no marks.
constexpr const char* kWords = "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}";

/// Says in PCRE2's dialect what the pattern says in Oniguruma's.
std::string translate(const std::string& pattern, const std::string& where) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char next = pattern[++i];
      const char* set = next == 's' || next == 'S' ? kSpaces : next == 'w' || next == 'W' ? kWords : nullptr;
      const bool negated = next == 'S' || next == 'W';
      if (next == 'h' || next == 'H' || next == 'G' || next == 'K')
        usage_error(where, ": the pattern uses \\", next, ", which Molt does not read");
      if (set && in_class && negated)
        usage_error(where, ": the pattern uses \\", next, " in a class, which Molt does not read");
      if (!set) {
        (out += '\\') += next;
      } else if (in_class) {
        out += set;
      } else {
        ((out += negated ? "[^" : "[") += set) += ']';
      }
      continue;
    }
    if (in_class && c == '&' && i + 1 < pattern.size() && pattern[i + 1] == '&')
      usage_error(where, ": the pattern intersects classes (&&), which Molt does not read");
    if (in_class && c == '[' && i + 1 < pattern.size() && pattern[i + 1] != ':')
      usage_error(where, ": the pattern nests classes, which Molt does not read (write \\[ for a bracket)");
    if (in_class && c == '[') {  // a POSIX class
      const size_t close = pattern.find(":]", i);
      if (close != std::string::npos) {
        out.append(pattern, i, close + 2 - i);
        i = close + 1;
        continue;
      }
    }
    out += c;
    if (!in_class && c == '[') {
      in_class = true;
      if (i + 1 < pattern.size() && pattern[i + 1] == '^') out += pattern[++i];
      if (i + 1 < pattern.size() && pattern[i + 1] == ']') out += pattern[++i];  // a bracket in first place is itself
    } else if (in_class && c == ']') {
      in_class = false;
    }
  }
  return out;
}

}  // namespace

struct Regex::Code {
  pcre2_code* compiled = nullptr;
  bool jit = false;
  ~Code() { pcre2_code_free(compiled); }
};

Regex::Regex(const std::string& pattern, const std::string& where) : code_(std::make_unique<Code>()) {
  if (find_invalid_utf8(pattern) != pattern.size()) usage_error(where, ": the pattern is not UTF-8");
  const std::string translated = translate(pattern, where);
  int error = 0;
  PCRE2_SIZE at = 0;
  // In Oniguruma ^ and $ always mean the bounds of a line.
  code_->compiled =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &at, nullptr);
  if (!code_->compiled) {
    PCRE2_UCHAR message[160] = "";
    pcre2_get_error_message(error, message, sizeof message);
    usage_error(where, ": not a regular expression Molt reads: ", reinterpret_cast<const char*>(message));
  }
  code_->jit = pcre2_jit_compile(code_->compiled, PCRE2_JIT_COMPLETE) == 0;
}

Regex::~Regex() = default;

std::string Regex::quote(std::string_view literal) {
  std::string out;
  for (const char c : literal) {
    const bool plain = static_cast<unsigned char>(c) >= 0x80 || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
                       (c >= 'a' && c <= 'z') || static_cast<unsigned char>(c) <= ' ';
    if (!plain) out += '\\';
    out += c;
  }
  return out;
}

Regex::Scratch::Scratch(const Regex& regex)
    : data_(pcre2_match_data_create_from_pattern(regex.code_->compiled, nullptr)) {
  if (!data_) throw std::bad_alloc();
}

Regex::Scratch::~Scratch() { pcre2_match_data_free(static_cast<pcre2_match_data*>(data_)); }

bool Regex::find(std::string_view text, size_t from, Scratch& scratch, size_t& begin, size_t& end) const {
  auto* data = static_cast<pcre2_match_data*>(scratch.data_);
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  while (from < text.size()) {
    int found = PCRE2_ERROR_JIT_STACKLIMIT;
    if (code_->jit) found = pcre2_jit_match(code_->compiled, subject, text.size(), from, 0, data, nullptr);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) {  // the interpreter backtracks on the heap
      found =
          pcre2_match(code_->compiled, subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data, nullptr);
    }
    if (found == PCRE2_ERROR_NOMATCH) return false;
    if (found < 0) {
      PCRE2_UCHAR message[160] = "";
      pcre2_get_error_message(found, message, sizeof message);
      usage_error("splitting text: the tokenizer's pattern gave up: ", reinterpret_cast<const char*>(message));
    }
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(data);
    begin = bounds[0], end = bounds[1];
    if (begin < end) return true;
    if (begin >= text.size()) return false;
    from = begin + next_utf8(text, begin).size;
  }
  return false;
}

}  // namespace molt::text
