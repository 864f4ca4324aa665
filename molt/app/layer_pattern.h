// Long lists of paths for readers: those alike but for one number on one line.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace molt::app {

/// Names that differ only in their first component that is a number.
struct PatternGroup {
  std::string pattern;          ///< "backbone.layers.{0..23}.mixer.x_proj"; the name itself where it stands alone
  std::vector<size_t> members;  ///< places in the list
};

/// Groups dotted names in the order of their first members. `kinds`, one per name, tells apart what must not share a
/// line (a shape, a dtype).
std::vector<PatternGroup> group_by_layer(const std::vector<std::string>& names, const std::vector<std::string>& kinds);

/// Ascending numbers as a pattern: 3 -> "3", 0 1 2 3 -> "{0..3}", 0 2 3 4 -> "{0,2..4}".
std::string number_pattern(const std::vector<long>& numbers);

}  // namespace molt::app
