// Regular expressions of tokenizer files, over UTF-8, compiled to machine code. PCRE2 is known to regex.cc only.
//
// The files are written for Oniguruma. Where both read the same pattern differently, the pattern is rewritten (\s and
// \w: Unicode's White_Space, and letters with marks) or refused (\h, && in a class).
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace molt::text {

/// A compiled pattern. Const use from many threads is safe.
class Regex {
 public:
  /// Throws UsageError, beginning with `where`, for a pattern that cannot be read.
  Regex(const std::string& pattern, const std::string& where);
  ~Regex();

  /// A pattern that matches these bytes and nothing else.
  static std::string quote(std::string_view literal);

  /// Memory that a search writes to: one per thread and search.
  class Scratch {
   public:
    explicit Scratch(const Regex& regex);
    ~Scratch();
    Scratch(Scratch&& other) noexcept : data_(other.data_) { other.data_ = nullptr; }
    Scratch& operator=(Scratch&&) = delete;

   private:
    friend class Regex;
    void* data_;
  };

  /// Finds the first match that is not empty at or after `from`, and its bounds in bytes. `text` must be valid UTF-8.
  bool find(std::string_view text, size_t from, Scratch& scratch, size_t& begin, size_t& end) const;

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace molt::text
