// Reading typed fields of JSON files that others wrote, with errors that name the file and the field.
#pragma once

#include <optional>
#include <string>

#include "molt/base/json.h"

namespace molt::text {

/// The member `key`, or null where `json` has none. Throws UsageError when `json` is not an object.
const Json& field(const Json& json, const char* key, const std::string& where);

/// A true or false; `absent` where there is no such member or it is null. Throws UsageError for another type.
bool bool_field(const Json& json, const char* key, bool absent, const std::string& where);

/// A string; nothing where there is no such member or it is null. Throws UsageError for another type.
std::optional<std::string> string_field(const Json& json, const char* key, const std::string& where);

/// The member `type`, which must be a string.
std::string type_field(const Json& json, const std::string& where);

/// A token id: an integer from 0 to below kMaxVocab. `what` names it in the UsageError that anything else gets.
int32_t token_id(const Json& json, const std::string& what, const std::string& where);

/// The content of a token that is given as a string or as an object with "content"; nothing where it is null.
std::optional<std::string> token_content(const Json& json, const char* key, const std::string& where);

/// No vocabulary is larger; a file that says so is broken, and would have us allocate at its word.
inline constexpr int32_t kMaxVocab = 1 << 22;

}  // namespace molt::text
