#include "molt/app/layer_pattern.h"

#include <algorithm>
#include <map>
#include <optional>

#include "molt/base/error.h"

namespace molt::app {
namespace {

/// A name as what stands before and after its first number, or the whole as `before`.
struct Split {
  std::string before, after;
  std::optional<long> number;
};

Split split(const std::string& name) {
  for (size_t begin = 0; begin < name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    // Longer numbers are no layers.
    if (!part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == std::string::npos)
      return {name.substr(0, begin), name.substr(end), std::stol(part)};
    begin = end + 1;
  }
  return {name, "", std::nullopt};
}

}  // namespace

std::string number_pattern(const std::vector<long>& numbers) {
  if (numbers.size() == 1) return std::to_string(numbers[0]);
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    text += (text.empty() ? "" : ",") + std::to_string(numbers[i]);
    if (last > i) text += (last == i + 1 ? "," : "..") + std::to_string(numbers[last]);
    i = last + 1;
  }
  return "{" + text + "}";
}

std::vector<PatternGroup> group_by_layer(const std::vector<std::string>& names, const std::vector<std::string>& kinds) {
  MOLT_CHECK(names.size() == kinds.size(), "group_by_layer: ", kinds.size(), " kinds for ", names.size(), " names");
  std::vector<PatternGroup> groups;
  std::vector<std::vector<long>> numbers;
  std::map<std::string, size_t> known;
  for (size_t i = 0; i < names.size(); ++i) {
    const Split s = split(names[i]);
    const std::string key = str(s.before, "\n", s.after, "\n", s.number.has_value(), "\n", kinds[i]);
    const auto [at, is_new] = known.emplace(key, groups.size());
    if (is_new) {
      groups.emplace_back();
      numbers.emplace_back();
    }
    groups[at->second].members.push_back(i);
    if (s.number) numbers[at->second].push_back(*s.number);
  }
  for (size_t g = 0; g < groups.size(); ++g) {
    const Split s = split(names[groups[g].members[0]]);
    std::sort(numbers[g].begin(), numbers[g].end());
    groups[g].pattern = s.number ? s.before + number_pattern(numbers[g]) + s.after : s.before;
  }
  return groups;
}

}  // namespace molt::app
