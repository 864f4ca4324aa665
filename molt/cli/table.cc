#include "molt/cli/table.h"

#include <algorithm>
#include <cstdio>

namespace molt::cli {
namespace {

/// Code points of UTF-8 text.
size_t width(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

}  // namespace

Table::Table(std::vector<std::string> columns) : columns_(std::move(columns)) {
  for (std::string& name : columns_) {
    right_.push_back(!name.empty() && name[0] == '>');
    if (right_.back()) name.erase(0, 1);
  }
}

void Table::row(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::text() const {
  std::vector<std::vector<std::string>> lines = rows_;
  const bool named = std::any_of(columns_.begin(), columns_.end(), [](const std::string& n) { return !n.empty(); });
  if (named) lines.insert(lines.begin(), columns_);
  std::vector<size_t> widths(columns_.size());
  for (const auto& line : lines) {
    for (size_t c = 0; c < line.size(); ++c) widths[c] = std::max(widths[c], width(line[c]));
  }
  std::string out;
  for (const auto& line : lines) {
    std::string text;
    for (size_t c = 0; c < line.size(); ++c) {
      const std::string pad(widths[c] - width(line[c]), ' ');
      text += (c ? "  " : "") + (right_[c] ? pad + line[c] : line[c] + pad);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + "\n";
  }
  return out;
}

void Table::print() const {
  const std::string out = text();
  std::fwrite(out.data(), 1, out.size(), stdout);
}

}  // namespace molt::cli
