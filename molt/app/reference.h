// docs/reference.md: every key of a recipe and of each method, from the structs that read them.
#pragma once

#include <string>

namespace molt::app {

/// The page as Markdown. It depends on the program alone.
std::string reference_page();

}  // namespace molt::app
