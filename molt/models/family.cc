#include "molt/models/family.h"

#include "molt/base/error.h"

namespace molt::models {
namespace {

const Family* const kFamilies[] = {&kMamba};

std::string family_names() {
  std::string names;
  for (const Family* family : kFamilies) names += (names.empty() ? "" : ", ") + std::string(family->name);
  return names;
}

}  // namespace

const Family& family_of(const Json& config, const std::string& where) {
  for (const Family* family : kFamilies) {
    if (family->recognises(config)) return *family;
  }
  const std::string type = config.is_object() && config.contains("model_type") && config["model_type"].is_string()
                               ? config["model_type"].get<std::string>()
                               : "none";
  usage_error(where, ": model_type is '", type, "'; this version reads: ", family_names());
}

const Family& family_named(const std::string& name) {
  for (const Family* family : kFamilies) {
    if (name == family->name) return *family;
  }
  usage_error("model family '", name, "' is unknown; there is: ", family_names());
}

}  // namespace molt::models
