// A record: one row of a table or one JSON object, with its values by name and the place it came from.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "molt/base/json.h"

namespace molt::data {

/// Values by name. A row's cells are also found by number ("0" is the first); an object's nested values by a dotted
/// path
/// ("annotations.0.text"), where a key that contains the dots itself wins.
class Record {
 public:
  /// A row of a table. `columns` may be empty (no header); otherwise it has as many names as there are cells.
  static Record row(std::string where, std::shared_ptr<const std::vector<std::string>> columns,
                    std::vector<std::string> cells);
  /// A JSON object.
  static Record object(std::string where, Json value);

  bool has(const std::string& name) const;
  /// The value as text. Strings are themselves, numbers and booleans as JSON writes them, a list is joined by " | " and
  /// a list in it by " : ". Throws UsageError when the name is unknown, or the value is null or an object.
  std::string text(const std::string& name) const;
  /// The JSON value of an object's field, or null when there is none or the record is a row.
  const Json* find(const std::string& name) const;
  /// Sets a top-level field of an object.
  void set(const std::string& name, Json value) { object_[name] = std::move(value); }

  bool is_object() const { return is_object_; }
  /// "file:line", or "file: item n" in a JSON array.
  const std::string& where() const { return where_; }
  /// The names there are, for messages.
  std::string names() const;

 private:
  /// Index of the cell called `name`, or -1. Throws UsageError when two columns have that name.
  int64_t cell(const std::string& name) const;

  std::string where_;
  bool is_object_ = false;
  std::shared_ptr<const std::vector<std::string>> columns_;
  std::vector<std::string> cells_;
  Json object_;
};

/// Gets each record in file order; returns false to stop.
using RecordSink = std::function<bool(Record)>;

/// Reads a file of format "jsonl" (one object per line, or the whole file one array of objects), "csv" (RFC 4180:
/// quoted fields may hold commas, doubled quotes and line breaks) or "tsv" (split at tabs, quotes mean nothing). Blank
/// lines are skipped. Throws UsageError "file:line: …" where the file is not that: every row must have the width of the
/// first.
void read_records(const std::string& path, const std::string& format, bool header, const RecordSink& sink);

}  // namespace molt::data
