// Suggests what a mistyped name may have meant.
#pragma once

#include <string>
#include <vector>

namespace molt {

/// The `count` candidates with the smallest edit distance to `name`, best first, joined by commas.
std::string nearest(const std::string& name, const std::vector<std::string>& candidates, size_t count);

}  // namespace molt
