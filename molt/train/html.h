// Pieces of HTML for the report: escaped text, and the page around the content with its styles and script.
#pragma once

#include <string>
#include <string_view>

#include "molt/base/json.h"

namespace molt::train {

/// Text for HTML content or a quoted attribute. Bytes that are no UTF-8 become U+FFFD, control characters other than
/// tabs and line breaks their visible pictures (U+2400...), so that a model's raw output is shown as it is.
std::string escape_html(std::string_view text);

/// JSON that may stand inside a <script> element.
std::string script_json(const Json& json);

/// A <pre> with recipe text, its keys and comments told apart by colour, and a button that copies it.
std::string yaml_block(std::string_view yaml);

/// Two texts as HTML in which words that only one of them has are marked (longest common subsequence of words). Texts
/// of more than 400 words, or that are equal, are only escaped.
struct MarkedPair {
  std::string expected, generated;
};
MarkedPair mark_difference(const std::string& expected, const std::string& generated);

/// A whole page. `title` is text, `body` HTML.
std::string html_page(const std::string& title, const std::string& body);

}  // namespace molt::train
