// docs/robustness.md's list of bad inputs: its rows, how they are looked up, and how they are written anew.
#pragma once

#include <fstream>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "molt/base/file.h"
#include "molt/base/str.h"

namespace molt::test {

struct BadInputCase {
  const char* name;       ///< what is wrong, in words joined like this: ModelIsAFile
  const char* prepare;    ///< shell commands, run in the directory @ beforehand
  const char* arguments;  ///< of molt; @ is a directory with a model, a tokenizer, data, a recipe and a finished run
  const char* says;       ///< part of the line
  int code = 2;
};

/// How a failing test names it.
inline void PrintTo(const BadInputCase& c, std::ostream* out) { *out << c.name; }

struct BadInputKind {
  const char* title;
  std::vector<BadInputCase> cases;
};

/// What is run, by kind.
const std::vector<BadInputKind>& bad_inputs();

/// Replaces every `from` that is there.
inline std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

class BadInputList {
 public:
  BadInputList() : text_(read_file(kPath)) {}

  /// "ModelIsAFile" as "model is a file".
  static std::string words(const std::string& name) {
    std::string out;
    for (size_t i = 0; i < name.size(); ++i) {
      const bool capital = name[i] >= 'A' && name[i] <= 'Z';
      if (capital && i > 0) out += ' ';
      out += static_cast<char>(capital ? name[i] - 'A' + 'a' : name[i]);
    }
    return out;
  }
  /// What stands before the line itself.
  static std::string row_begin(const BadInputCase& c) {
    std::string command = c.arguments;
    for (const auto& [from, to] : std::map<std::string, std::string>{
             {"@/", ""}, {"$GOLDEN/", "tests/golden/"}, {"$CACHE", "cache"}, {"|", "\\|"}})
      command = replaced(command, from, to);
    return str("| ", words(c.name), " | `molt", *c.arguments ? " " : "", command, "` | ", c.code, " | ");
  }
  /// A row of the list; `line` as the program printed it, the directory's name taken off.
  static std::string row(const BadInputCase& c, std::string line) {
    for (char& ch : line)
      if (static_cast<unsigned char>(ch) < ' ' || ch == 127) ch = ' ';
    while (!line.empty() && line.back() == ' ') line.pop_back();
    // A fingerprint depends on the machine the model was trained on.
    for (size_t at = 0; (at = line.find("m1-", at)) != std::string::npos; at += 3)
      if (at + 19 <= line.size()) line.replace(at + 3, 16, "…");
    // A code span that may hold code spans.
    line = replaced(line, "|", "\\|");
    return str(row_begin(c), "`` ", line, " `` |");
  }

  /// Whether the list has this very row; for lines with words of other libraries or of the system, which differ between
  /// their versions: whether it has one that begins like it and says what is asked of it.
  bool holds(const BadInputCase& c, const std::string& row) const {
    if (text_.find("\n" + row + "\n") != std::string::npos) return true;
    const size_t at = text_.find("\n" + row_begin(c));
    if (at == std::string::npos) return false;
    const std::string there = text_.substr(at + 1, text_.find('\n', at + 1) - at - 1);
    for (const char* foreign : {"not valid YAML", "syntax error", "cannot be"})
      if (row.find(foreign) != std::string::npos && there.find(foreign) != std::string::npos)
        return there.find(c.says) != std::string::npos;
    return false;
  }
  /// Rows of the list.
  int size() const {
    int rows = 0;
    for (size_t at = text_.find(kBegin); (at = text_.find("\n| ", at)) != std::string::npos; ++at)
      rows += text_.compare(at, 10, "\n| input |") != 0 && text_.compare(at, 7, "\n| --- ") != 0;
    return rows;
  }
  /// Writes the list from every case's row, by name.
  void write(const std::map<std::string, std::string>& rows) const {
    std::string list = std::string(kBegin) + "\n";
    for (const BadInputKind& kind : bad_inputs()) {
      list += str("\n### ", kind.title, "\n\n| input | command | code | line |\n| --- | --- | --- | --- |\n");
      for (const BadInputCase& c : kind.cases) list += rows.at(c.name) + "\n";
    }
    const size_t begin = text_.find(kBegin);
    if (begin == std::string::npos) throw std::runtime_error(std::string(kPath) + ": the mark of the list is missing");
    std::ofstream(kPath) << text_.substr(0, begin) << list;
  }

 private:
  static constexpr const char* kPath = MOLT_SOURCE_DIR "/docs/robustness.md";
  static constexpr const char* kBegin = "<!-- The list below is written by: make bad-inputs -->";
  std::string text_;
};

}  // namespace molt::test
