#include "molt/base/json.h"

#include "molt/base/error.h"
#include "molt/base/file.h"

namespace molt {

Json parse_json(std::string_view text, const std::string& where) {
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& e) {
    usage_error(where, ": not valid JSON at byte ", e.byte);
  }
}

Json read_json_file(const std::string& path) { return parse_json(read_file(path), path); }

}  // namespace molt
