#include "molt/peft/configured.h"

#include <cmath>

#include "molt/base/error.h"

namespace molt::peft {

bool is_set(const Json& config, const char* key) {
  const auto at = config.find(key);
  return at != config.end() && !at->is_null() && *at != false && !at->empty() && !(at->is_number() && *at == 0);
}

void refuse_set(const Json& config, const std::vector<const char*>& keys, const std::string& where) {
  for (const char* key : keys) {
    if (is_set(config, key)) usage_error(where, ": ", key, " is set, which this version cannot honour");
  }
}

Json taken(const Json& config, const std::vector<const char*>& keys) {
  Json options = Json::object();
  for (const char* key : keys) {
    if (config.contains(key) && !config[key].is_null()) options[key] = config[key];
  }
  return options;
}

std::string text_in(const Json& object, const char* key, const std::string& where, const std::string& absent) {
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return absent;
  if (!it->is_string()) usage_error(where, ": ", key, ": expected text, found ", it->dump().substr(0, 60));
  return it->get<std::string>();
}

Json peft_base(const char* peft_type) {
  return {{"peft_type", peft_type}, {"task_type", "CAUSAL_LM"}, {"inference_mode", true}};
}

Json json_number(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15) return static_cast<int64_t>(value);
  return value;
}

}  // namespace molt::peft
