// A plain form of Jinja chat templates, to tell whether two of them say the same in different spelling. Nothing is run.
#pragma once

#include <string>
#include <vector>

namespace molt::text {

/// The template as a list of statements and outputs: {"for message in messages", "emit \"<|im_start|>\" message.role",
/// ...}. White space goes as transformers has it (trim_blocks, lstrip_blocks), neighbouring outputs become one,
/// literals are joined and quoted as JSON, x['y'] is x.y. Throws UsageError, beginning with `where`, for tags that do
/// not close.
std::vector<std::string> jinja_form(const std::string& source, const std::string& where);

}  // namespace molt::text
