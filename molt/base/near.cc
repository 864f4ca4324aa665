#include "molt/base/near.h"

#include <algorithm>
#include <cctype>

namespace molt {

size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string nearest(const std::string& name, const std::vector<std::string>& candidates, size_t count) {
  std::vector<std::pair<size_t, std::string>> ranked;
  // LoRA is near to lora, whatever its letters' size.
  const auto lower = [](std::string text) {
    for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return text;
  };
  for (const std::string& candidate : candidates)
    ranked.emplace_back(edit_distance(lower(name), lower(candidate)), candidate);
  std::sort(ranked.begin(), ranked.end());
  std::string text;
  for (size_t i = 0; i < std::min(count, ranked.size()); ++i) text += (i ? ", " : "") + ranked[i].second;
  return text;
}

}  // namespace molt
