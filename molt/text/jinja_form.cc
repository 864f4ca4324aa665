#include "molt/text/jinja_form.h"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "molt/base/error.h"
#include "molt/base/json.h"

namespace molt::text {

namespace {

/// A word, a mark or a string of an expression.
struct Token {
  std::string text;
  bool literal = false;
};

bool is_name(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

std::vector<Token> tokens_of(std::string_view code) {
  std::vector<Token> tokens;
  for (size_t i = 0; i < code.size();) {
    const char c = code[i];
    if (std::isspace(static_cast<unsigned char>(c))) {
      ++i;
    } else if (c == '\'' || c == '"') {
      Token literal{"", true};
      for (++i; i < code.size() && code[i] != c; ++i) {
        if (code[i] != '\\' || i + 1 == code.size()) {
          literal.text += code[i];
          continue;
        }
        const char next = code[++i];
        if (next == 'n') {
          literal.text += '\n';
        } else if (next == 't') {
          literal.text += '\t';
        } else if (next == 'r') {
          literal.text += '\r';
        } else if (next == '\\' || next == '\'' || next == '"') {
          literal.text += next;
        } else {
          (literal.text += '\\') += next;
        }
      }
      ++i;
      tokens.push_back(std::move(literal));
    } else {
      size_t end = i + 1;
      if (is_name(c)) {
        while (end < code.size() && is_name(code[end])) ++end;
      } else if (code.substr(i, 2) == "==" || code.substr(i, 2) == "!=") {
        end = i + 2;
      }
      tokens.push_back({std::string(code.substr(i, end - i)), false});
      i = end;
    }
  }
  return tokens;
}

/// Writes x['y'] as x.y and joins names with their attributes.
std::vector<Token> with_attributes(const std::vector<Token>& tokens) {
  std::vector<Token> out;
  const auto mark = [&](size_t i, const char* text) {
    return i < tokens.size() && !tokens[i].literal && tokens[i].text == text;
  };
  const auto plain_name = [](const std::string& s) { return !s.empty() && std::all_of(s.begin(), s.end(), is_name); };
  for (size_t i = 0; i < tokens.size(); ++i) {
    const bool after_name = !out.empty() && !out.back().literal && is_name(out.back().text.back());
    if (after_name && mark(i, "[") && i + 1 < tokens.size() && tokens[i + 1].literal &&
        plain_name(tokens[i + 1].text) && mark(i + 2, "]")) {
      out.back().text += "." + tokens[i + 1].text;
      i += 2;
    } else if (after_name && mark(i, ".") && i + 1 < tokens.size() && !tokens[i + 1].literal) {
      out.back().text += "." + tokens[++i].text;
    } else {
      out.push_back(tokens[i]);
    }
  }
  return out;
}

std::string quoted(const std::string& text) { return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string written(const Token& token) { return token.literal ? quoted(token.text) : token.text; }

/// Collects statements and outputs, joining outputs that follow each other.
class Form {
 public:
  void statement(const std::string& code) {
    flush();
    std::string text;
    for (const Token& token : with_attributes(tokens_of(code))) (text += text.empty() ? "" : " ") += written(token);
    out_.push_back(text);
  }
  void output(const std::string& code) {
    for (const Token& token : with_attributes(tokens_of(code))) {
      if (!token.literal && (token.text == "+" || token.text == "~")) continue;  // both join
      add(token);
    }
  }
  void text(const std::string& text) {
    if (!text.empty()) add({text, true});
  }
  std::vector<std::string> finish() {
    flush();
    return std::move(out_);
  }

 private:
  void add(const Token& token) {
    if (token.literal && !emitted_.empty() && emitted_.back().literal) {
      emitted_.back().text += token.text;
    } else {
      emitted_.push_back(token);
    }
  }
  void flush() {
    if (emitted_.empty()) return;
    std::string text = "emit";
    for (const Token& token : emitted_) (text += ' ') += written(token);
    out_.push_back(text);
    emitted_.clear();
  }

  std::vector<std::string> out_;
  std::vector<Token> emitted_;
};

/// Where the tag that begins at `open` ends (the offset of "%}", "}}" or "#}"); strings may hold those marks.
size_t closing(const std::string& source, size_t open, char kind, const std::string& where) {
  char quote = 0;
  for (size_t i = open + 2; i + 1 < source.size(); ++i) {
    if (quote) {
      if (source[i] == '\\') {
        ++i;
      } else if (source[i] == quote) {
        quote = 0;
      }
    } else if (kind != '#' && (source[i] == '\'' || source[i] == '"')) {
      quote = source[i];
    } else if (source[i] == (kind == '{' ? '}' : kind) && source[i + 1] == '}') {
      return i;
    }
  }
  usage_error(where, ": the chat template has a tag that does not close");
}

}  // namespace

std::vector<std::string> jinja_form(const std::string& given, const std::string& where) {
  std::string source = given;
  if (!source.empty() && source.back() == '\n') source.pop_back();  // Jinja drops one
  Form form;
  bool strip_left = false, trim_newline = false;  // asked for by the tag before
  for (size_t at = 0; at <= source.size();) {
    size_t open = at;
    while (open < source.size() && !(source[open] == '{' && open + 1 < source.size() &&
                                     (source[open + 1] == '{' || source[open + 1] == '%' || source[open + 1] == '#')))
      ++open;
    std::string text = source.substr(at, open - at);
    const bool tag = open < source.size();
    const char kind = tag ? source[open + 1] : 0;
    const bool strip_right = tag && open + 2 < source.size() && source[open + 2] == '-';
    bool line_begins = at == 0;
    if (strip_left) {
      text.erase(0, std::min(text.find_first_not_of(" \t\r\n"), text.size()));
    } else if (trim_newline && !text.empty() && text[0] == '\n') {
      text.erase(0, 1);
      line_begins = true;
    }
    if (strip_right) {
      text.erase(text.find_last_not_of(" \t\r\n") + 1);
    } else if (tag && kind != '{') {  // white space between a line's beginning and a statement
      const size_t kept = text.find_last_not_of(" \t") + 1;
      if (kept > 0) line_begins = text[kept - 1] == '\n';
      if (line_begins) text.erase(kept);
    }
    form.text(text);
    if (!tag) break;
    const size_t close = closing(source, open, kind, where);
    size_t begin = open + 2, end = close;
    if (strip_right) ++begin;
    strip_left = end > begin && source[end - 1] == '-';
    if (strip_left) --end;
    trim_newline = kind != '{';
    const std::string code = source.substr(begin, end > begin ? end - begin : 0);
    if (kind == '%') form.statement(code);
    if (kind == '{') form.output(code);
    at = close + 2;
  }
  return form.finish();
}

}  // namespace molt::text
