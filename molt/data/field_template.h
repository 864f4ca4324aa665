// Templates that make text from a record: "{sentence1}###{sentence2}".
#pragma once

#include <string>
#include <vector>

#include "molt/data/record.h"

namespace molt::data {

/// Literal text with fields in braces; "{{" and "}}" stand for braces, "\n", "\t" and "\\" for a line end, a tab and a
/// backslash, which command lines and unquoted YAML do not turn into such.
class FieldTemplate {
 public:
  FieldTemplate() = default;
  /// `option` names the setting in the UsageError that a brace without its partner, or a template without any field,
  /// gets.
  FieldTemplate(const std::string& text, const std::string& option);

  /// The text with every field filled in. Throws UsageError at the record's place when a field is missing.
  std::string render(const Record& record) const;

 private:
  struct Part {
    bool field;
    std::string text;
  };
  std::vector<Part> parts_;
};

}  // namespace molt::data
