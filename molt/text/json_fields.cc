#include "molt/text/json_fields.h"

#include "molt/base/error.h"

namespace molt::text {

const Json& field(const Json& json, const char* key, const std::string& where) {
  static const Json kNull;
  if (!json.is_object()) usage_error(where, ": expected an object with \"", key, "\", got ", json.type_name());
  const auto found = json.find(key);
  return found == json.end() ? kNull : *found;
}

bool bool_field(const Json& json, const char* key, bool absent, const std::string& where) {
  const Json& value = field(json, key, where);
  if (value.is_null()) return absent;
  if (!value.is_boolean()) usage_error(where, ": \"", key, "\" must be true or false, not ", value.type_name());
  return value.get<bool>();
}

std::optional<std::string> string_field(const Json& json, const char* key, const std::string& where) {
  const Json& value = field(json, key, where);
  if (value.is_null()) return std::nullopt;
  if (!value.is_string()) usage_error(where, ": \"", key, "\" must be a string, not ", value.type_name());
  return value.get<std::string>();
}

std::string type_field(const Json& json, const std::string& where) {
  const auto type = string_field(json, "type", where);
  if (!type) usage_error(where, ": has no \"type\"");
  return *type;
}

int32_t token_id(const Json& json, const std::string& what, const std::string& where) {
  if (!json.is_number_integer() || json < 0 || json >= kMaxVocab)
    usage_error(where, ": ", what, " must be an integer from 0 to ", kMaxVocab - 1);
  return json.get<int32_t>();
}

std::optional<std::string> token_content(const Json& json, const char* key, const std::string& where) {
  const Json& value = field(json, key, where);
  if (value.is_object()) return string_field(value, "content", str(where, ": ", key));
  return string_field(json, key, where);
}

}  // namespace molt::text
