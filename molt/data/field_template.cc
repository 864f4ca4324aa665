#include "molt/data/field_template.h"

#include "molt/base/error.h"
#include "molt/base/escape.h"

namespace molt::data {

FieldTemplate::FieldTemplate(const std::string& written, const std::string& option) {
  const std::string text = unescape(written);
  std::string literal;
  bool any = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if ((c == '{' || c == '}') && i + 1 < text.size() && text[i + 1] == c) {
      literal += c;
      ++i;
    } else if (c == '{') {
      const size_t end = text.find_first_of("{}", i + 1);
      if (end == std::string::npos || text[end] != '}' || end == i + 1)
        usage_error(option, ": expected a field name and \"}\" after \"{\" in \"", text,
                    "\" (write \"{{\" for a brace)");
      if (!literal.empty()) parts_.push_back({false, std::move(literal)});
      literal.clear();
      parts_.push_back({true, text.substr(i + 1, end - i - 1)});
      any = true;
      i = end;
    } else if (c == '}') {
      usage_error(option, ": \"}\" without \"{\" in \"", text, "\" (write \"}}\" for a brace)");
    } else {
      literal += c;
    }
  }
  if (!literal.empty()) parts_.push_back({false, std::move(literal)});
  if (!any)
    usage_error(option, ": expected a template with a field in braces, such as \"{", text.empty() ? "prompt" : text,
                "}\"; got \"", text, "\"");
}

std::string FieldTemplate::render(const Record& record) const {
  std::string out;
  for (const Part& part : parts_) out += part.field ? record.text(part.text) : part.text;
  return out;
}

}  // namespace molt::data
