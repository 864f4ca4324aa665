#include "molt/text/word_counts.h"

#include <filesystem>
#include <fstream>

#include "molt/base/error.h"
#include "molt/text/added_tokens.h"
#include "molt/text/pre_tokenizer.h"
#include "molt/text/unicode.h"
#include "molt/text/utf8.h"

namespace molt::text {

namespace {

constexpr size_t kPiece = size_t{16} << 20;
constexpr size_t kMostHeldBytes = size_t{1} << 30;

/// The last place where text can be cut without cutting a word or a run of white space: after a line's end, before an
/// ASCII character that is seen. 0 where there is none.
size_t last_safe_cut(const std::string& text) {
  for (size_t at = text.size(); at-- > 1;)
    if (text[at - 1] == '\n' && text[at] > ' ' && text[at] < 127) return at;
  return 0;
}

}  // namespace

std::unordered_map<std::string, int64_t> count_words(const std::vector<std::string>& paths,
                                                     const WordCountConfig& config) {
  std::unordered_map<std::string, int64_t> counts;
  AddedTokenMatcher specials;
  for (const std::string& token : config.special_tokens)
    specials.add({0, token, true, false, false, false, false}, token);
  const PreTokenizer words = PreTokenizer::gpt2(config.add_prefix_space);
  std::string key;
  const PreTokenizer::Emit on_word = [&](std::string_view word) { ++counts[key.assign(word)]; };
  const auto count = [&](std::string_view text) {
    specials.split(
        text, true,
        [&](std::string_view stretch) {
          if (!config.nfc || is_plainly_nfc(stretch)) return words.split(stretch, on_word);
          words.split(to_nfc(stretch), on_word);
        },
        [](int32_t) {});
  };
  for (const std::string& path : paths) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored)) usage_error(path, ": is a directory, expected a text file");
    std::ifstream file(path, std::ios::binary);
    if (!file) usage_error(path, ": cannot be read");
    std::string text;
    size_t before = 0;  // bytes of the file that come before `text`
    for (bool more = true; more;) {
      const size_t had = text.size();
      text.resize(had + kPiece);
      file.read(text.data() + had, static_cast<std::streamsize>(kPiece));
      if (file.bad()) system_error(path, ": reading failed");
      text.resize(had + static_cast<size_t>(file.gcount()));
      if (const size_t nul = text.find('\0', had); nul != std::string::npos)
        usage_error(path, ": expected text, found a NUL byte at byte ", before + nul, " (is it a binary file?)");
      if (text.size() > kMostHeldBytes)
        usage_error(path, ": expected lines of at most ", kMostHeldBytes >> 20, " MiB, found a longer one at byte ",
                    before);
      more = !file.eof();
      const size_t cut = more ? last_safe_cut(text) : text.size();
      const std::string_view ready = std::string_view(text).substr(0, cut);
      const size_t invalid = find_invalid_utf8(ready);
      if (invalid != cut) usage_error(path, ": is not UTF-8 at byte ", before + invalid);
      count(ready);
      before += cut;
      text.erase(0, cut);
    }
  }
  return counts;
}

}  // namespace molt::text
