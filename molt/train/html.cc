#include "molt/train/html.h"

#include <algorithm>
#include <vector>

#include "molt/base/str.h"
#include "molt/train/page_style.h"

namespace molt::train {
namespace {

/// Length of the well-formed UTF-8 sequence at the start of `text`, 0 where there is none (RFC 3629: no overlong forms,
/// no surrogates, nothing past U+10FFFF).
size_t utf8_length(std::string_view text) {
  auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0; };
  auto follows = [&](size_t i) { return (byte(i) & 0xc0) == 0x80; };
  const unsigned char first = byte(0), second = byte(1);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return follows(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    if (first == 0xe0 && second < 0xa0) return 0;
    if (first == 0xed && second > 0x9f) return 0;
    return follows(1) && follows(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    if (first == 0xf0 && second < 0x90) return 0;
    if (first == 0xf4 && second > 0x8f) return 0;
    return follows(1) && follows(2) && follows(3) ? 4 : 0;
  }
  return 0;
}

std::string span(const char* style, std::string_view text) {
  return str("<span class=\"", style, "\">", escape_html(text), "</span>");
}

/// One line of YAML: leading blanks and "- ", then "key:", then the rest up to a comment.
std::string yaml_line(std::string_view line) {
  const size_t start = std::min(line.find_first_not_of(" -"), line.size());
  if (start < line.size() && line[start] == '#') return span("yc", line);
  const size_t colon = line.find(':', start);
  std::string out;
  size_t at = 0;
  if (colon != std::string_view::npos && (colon + 1 == line.size() || line[colon + 1] == ' ') &&
      line.substr(start, colon - start).find_first_of("\"'#{[") == std::string_view::npos) {
    out = escape_html(line.substr(0, start)) + span("yk", line.substr(start, colon - start)) + ":";
    at = colon + 1;
  }
  const size_t comment = line.find(" #", at);
  out += escape_html(line.substr(at, comment == std::string_view::npos ? comment : comment - at));
  if (comment != std::string_view::npos) out += span("yc", line.substr(comment));
  return out;
}

/// Words with the blanks before them.
std::vector<std::string> split_words(const std::string& text) {
  std::vector<std::string> words;
  for (size_t at = 0; at < text.size();) {
    size_t end = text.find_first_not_of(" \n\t", at);
    if (end != std::string::npos) end = text.find_first_of(" \n\t", end);
    if (end == std::string::npos) end = text.size();
    words.push_back(text.substr(at, end - at));
    at = end;
  }
  return words;
}

std::string_view bare(const std::string& word) {
  const size_t start = word.find_first_not_of(" \n\t");
  return start == std::string::npos ? std::string_view() : std::string_view(word).substr(start);
}

std::string marked(const std::vector<std::string>& words, const std::vector<bool>& common, const char* style) {
  std::string out;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = bare(words[i]);
    out += escape_html(std::string_view(words[i]).substr(0, words[i].size() - word.size()));
    out += common[i] || word.empty() ? escape_html(word)
                                     : str("<mark class=\"", style, "\">", escape_html(word), "</mark>");
  }
  return out;
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  for (size_t i = 0; i < text.size();) {
    const size_t length = utf8_length(text.substr(i));
    const char c = text[i];
    if (length == 0) {
      out += "\xef\xbf\xbd";
      ++i;
      continue;
    }
    if (length > 1) {
      out += text.substr(i, length);
    } else if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else if (c == '\'') {
      out += "&#39;";
    } else if ((c >= 0 && c < 0x20 && c != '\n' && c != '\t') || c == 0x7f) {
      const int picture = c == 0x7f ? 0x21 : c;  // U+2400 + c, U+2421 for delete
      out += "\xe2\x90";
      out += static_cast<char>(0x80 + picture);
    } else {
      out += c;
    }
    i += length;
  }
  return out;
}

std::string script_json(const Json& json) {
  const std::string text = json.dump(-1, ' ', true, Json::error_handler_t::replace);
  std::string out;
  for (const char c : text) {
    if (c == '<') {
      out += "\\u003c";  // neither </script> nor <!--
    } else {
      out += c;
    }
  }
  return out;
}

std::string yaml_block(std::string_view yaml) {
  std::string out = "<div class=\"code\"><button class=\"copy\" type=\"button\">Copy</button><pre>";
  while (!yaml.empty() && yaml.back() == '\n') yaml.remove_suffix(1);
  for (size_t from = 0; from <= yaml.size();) {
    const size_t end = std::min(yaml.find('\n', from), yaml.size());
    out += yaml_line(yaml.substr(from, end - from)) + "\n";
    from = end + 1;
  }
  return out + "</pre></div>";
}

MarkedPair mark_difference(const std::string& expected, const std::string& generated) {
  const std::vector<std::string> a = split_words(expected), b = split_words(generated);
  if (expected == generated || a.size() > 400 || b.size() > 400) return {escape_html(expected), escape_html(generated)};
  // longest[i][j]: words in common of a[i...] and b[j...]
  std::vector<std::vector<int>> longest(a.size() + 1, std::vector<int>(b.size() + 1, 0));
  for (size_t i = a.size(); i-- > 0;) {
    for (size_t j = b.size(); j-- > 0;)
      longest[i][j] =
          bare(a[i]) == bare(b[j]) ? longest[i + 1][j + 1] + 1 : std::max(longest[i + 1][j], longest[i][j + 1]);
  }
  std::vector<bool> in_a(a.size(), false), in_b(b.size(), false);
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    if (bare(a[i]) == bare(b[j])) {
      in_a[i++] = in_b[j++] = true;
    } else if (longest[i + 1][j] >= longest[i][j + 1]) {
      ++i;
    } else {
      ++j;
    }
  }
  return {marked(a, in_a, "miss"), marked(b, in_b, "extra")};
}

std::string html_page(const std::string& title, const std::string& body) {
  return str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
             "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
             "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; ",
             "script-src 'unsafe-inline'; img-src data:\">\n",
             "<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"generator\" content=\"molt\">\n<title>",
             escape_html(title), "</title>\n<link rel=\"icon\" href=\"", kPageIcon, "\">\n<style>", kPageStyle,
             "</style>\n</head>\n<body>\n", body, "<div id=\"tip\" role=\"status\" hidden></div>\n<script>",
             kPageScript, "</script>\n</body>\n</html>\n");
}

}  // namespace molt::train
