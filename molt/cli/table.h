// Text tables: columns as wide as their widest cell, two spaces between them.
#pragma once

#include <string>
#include <vector>

namespace molt::cli {

class Table {
 public:
  /// One entry per column; a name that starts with '>' makes its column flush right (the '>' is not printed).
  explicit Table(std::vector<std::string> columns);
  /// Missing cells at the end are empty.
  void row(std::vector<std::string> cells);
  /// With a line of names above the rows, unless all names are empty. Widths count code points, not bytes.
  std::string text() const;
  void print() const;

 private:
  std::vector<std::string> columns_;
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace molt::cli
