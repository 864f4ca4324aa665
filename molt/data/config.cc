#include "molt/data/config.h"

#include <algorithm>
#include <filesystem>
#include <initializer_list>

#include "molt/base/error.h"

namespace molt::data {
namespace {

void one_of(const char* key, const std::string& value, std::initializer_list<const char*> words) {
  std::string list;
  for (const char* word : words) {
    if (value == word) return;
    list += (list.empty() ? "" : ", ") + std::string(word);
  }
  usage_error("data.", key, ": expected one of ", list, "; got \"", value, "\"");
}

}  // namespace

void DataConfig::validate() const {
  for (const auto& [key, paths] : {std::pair{"train", &train}, {"validation", &validation}, {"test", &test}}) {
    for (const std::string& path : *paths)
      if (path.empty()) usage_error("data.", key, ": expected a file's path, found an empty one");
  }
  one_of("format", format, {"auto", "jsonl", "csv", "tsv", "text"});
  one_of("on_long", on_long, {"error", "drop", "truncate"});
  one_of("limit_by", limit_by, {"first", "sample"});
  if (max_length < 0 || max_length == 1)
    usage_error("data.max_length: expected 0 (none) or at least 2, got ", max_length);
  if (segment_length < 1) usage_error("data.segment_length: expected at least 1, got ", segment_length);
  if (limit && *limit < 1) usage_error("data.limit: expected at least 1, got ", *limit);
  if (validation_limit && *validation_limit < 1)
    usage_error("data.validation_limit: expected at least 1, got ", *validation_limit);
  if (!(validation_split >= 0 && validation_split < 1))
    usage_error("data.validation_split: expected a share of at least 0 and below 1, got ", validation_split);
  if (validation_split > 0 && !validation.empty())
    usage_error("data: validation and validation_split are both set; keep one of them");
  const int layouts = !text_field.empty() + !messages_field.empty() + (!prompt.empty() || !completion.empty());
  if (layouts > 1)
    usage_error("data: set only one of text_field, messages_field, or prompt and completion; got ", layouts,
                " of them");
  for (const auto& pair : map_completion)
    if (pair.find('=') == std::string::npos)
      usage_error("data.map_completion: expected \"from=to\", got \"", pair, "\"");
}

std::string format_of(const std::string& path, const std::string& format) {
  if (format != "auto") return format;
  std::string ending = std::filesystem::path(path).extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(), [](unsigned char c) { return std::tolower(c); });
  if (ending == ".jsonl" || ending == ".json" || ending == ".ndjson") return "jsonl";
  if (ending == ".csv") return "csv";
  if (ending == ".tsv") return "tsv";
  if (ending == ".txt" || ending == ".text") return "text";
  usage_error(path,
              ": expected a file that ends in .jsonl, .json, .csv, .tsv or .txt; set data.format to say what it is");
}

}  // namespace molt::data
