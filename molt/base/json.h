// JSON values for configs, adapters and logs: nlohmann's, parsed with our errors.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace molt {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

/// Parses one JSON document. `where` names the source in the UsageError that malformed text gets.
Json parse_json(std::string_view text, const std::string& where);

/// Reads and parses a JSON file. Throws UsageError when it is missing, unreadable or malformed.
Json read_json_file(const std::string& path);

}  // namespace molt
