// Suggests what a mistyped name may have meant.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace molt {

/// Letters to insert, remove or replace to make one of the other (Levenshtein).
size_t edit_distance(const std::string& a, const std::string& b);

/// The `count` candidates with the smallest edit distance to `name`, best first, joined by commas.
std::string nearest(const std::string& name, const std::vector<std::string>& candidates, size_t count);

}  // namespace molt
