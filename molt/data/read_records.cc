// The three file formats behind read_records(): JSON lines, CSV and TSV.
#include <utility>

#include "molt/base/error.h"
#include "molt/data/line_reader.h"
#include "molt/data/record.h"

namespace molt::data {
namespace {

using Columns = std::shared_ptr<const std::vector<std::string>>;

bool blank(const std::string& line) { return line.find_first_not_of(" \t\r") == std::string::npos; }

/// The first character of a file that is not white space, or 0.
char first_character(const std::string& path) {
  LineReader lines(path);
  std::string line;
  while (lines.next(line))
    if (!blank(line)) return line[line.find_first_not_of(" \t\r")];
  return 0;
}

void read_json(const std::string& path, const RecordSink& sink) {
  if (first_character(path) == '[') {
    Json array = read_json_file(path);
    for (size_t i = 0; i < array.size(); ++i) {
      const std::string where = str(path, ": item ", i + 1);
      if (!array[i].is_object()) usage_error(where, ": expected an object, found ", array[i].type_name());
      if (!sink(Record::object(where, std::move(array[i])))) return;
    }
    return;
  }
  LineReader lines(path);
  std::string line;
  while (lines.next(line)) {
    if (blank(line)) continue;
    Json value = Json::parse(line, nullptr, false);
    if (value.is_discarded()) {
      std::string why;
      try {
        value = Json::parse(line);
      } catch (const Json::exception& e) {
        why = e.what();
        if (const size_t end = why.find("] "); end != std::string::npos) why.erase(0, end + 2);
      }
      usage_error(lines.where(), ": expected one JSON object per line: ", why);
    }
    if (!value.is_object()) usage_error(lines.where(), ": expected a JSON object, found ", value.type_name());
    if (!sink(Record::object(lines.where(), std::move(value)))) return;
  }
}

/// Splits one CSV record, which starts in `line` and may take further lines. Returns its cells.
std::vector<std::string> csv_cells(LineReader& lines, std::string& line) {
  const std::string start = lines.where();
  std::vector<std::string> cells(1);
  size_t i = 0;
  for (;;) {
    std::string& cell = cells.back();
    if (i < line.size() && line[i] == '"') {
      for (++i;;) {
        const size_t quote = line.find('"', i);
        if (quote == std::string::npos) {  // the line break belongs to the cell
          cell.append(line, i, std::string::npos);
          cell += lines.ended_in_crlf() ? "\r\n" : "\n";
          if (!lines.next(line)) usage_error(start, ": expected a closing quote, found the end of the file");
          i = 0;
          continue;
        }
        cell.append(line, i, quote - i);
        i = quote + 1;
        if (i == line.size() || line[i] != '"') break;
        cell += '"';
        ++i;
      }
      if (i < line.size() && line[i] != ',')
        usage_error(lines.where(), ": expected a comma or the end of the line after the closing quote at column ", i,
                    ", found '", line[i], "' (a quote inside a quoted field is written twice)");
    } else {
      const size_t comma = std::min(line.find(',', i), line.size());
      cell.assign(line, i, comma - i);
      i = comma;
    }
    if (i == line.size()) return cells;
    ++i;  // the comma
    cells.emplace_back();
  }
}

std::vector<std::string> tsv_cells(const std::string& line) {
  std::vector<std::string> cells;
  for (size_t at = 0;;) {
    const size_t tab = std::min(line.find('\t', at), line.size());
    cells.push_back(line.substr(at, tab - at));
    if (tab == line.size()) return cells;
    at = tab + 1;
  }
}

void read_table(const std::string& path, bool csv, bool header, const RecordSink& sink) {
  LineReader lines(path);
  auto columns = std::make_shared<const std::vector<std::string>>();
  size_t width = 0;
  std::string line;
  while (lines.next(line)) {
    if (line.empty() || (csv && blank(line))) continue;
    const std::string where = lines.where();
    std::vector<std::string> cells = csv ? csv_cells(lines, line) : tsv_cells(line);
    if (width == 0) {
      width = cells.size();
      if (header) {
        columns = std::make_shared<const std::vector<std::string>>(std::move(cells));
        continue;
      }
    }
    if (cells.size() != width)
      usage_error(where, ": expected ", width, " fields as in the ", header ? "header" : "first line", ", found ",
                  cells.size(), csv ? "" : " (a tab separates fields)");
    if (!sink(Record::row(where, columns, std::move(cells)))) return;
  }
}

}  // namespace

void read_records(const std::string& path, const std::string& format, bool header, const RecordSink& sink) {
  if (format == "jsonl") return read_json(path, sink);
  if (format == "csv" || format == "tsv") return read_table(path, format == "csv", header, sink);
  usage_error(path, ": expected a file of records (jsonl, csv or tsv), the format is ", format);
}

}  // namespace molt::data
