#include "molt/base/json.h"

#include "molt/base/error.h"
#include "molt/base/file.h"

namespace molt {

Json parse_json(std::string_view text, const std::string& where) {
  // Copying and printing a value recurse, so text that nests without end must not become one.
  constexpr int kDeepest = 500;
  const auto shallow = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > kDeepest) usage_error(where, ": not usable JSON: it nests deeper than ", kDeepest, " levels");
    return true;
  };
  try {
    return Json::parse(text, shallow);
  } catch (const Json::parse_error& e) {
    usage_error(where, ": not valid JSON at byte ", e.byte);
  } catch (const Json::exception&) {  // a number no double can hold
    usage_error(where, ": not valid JSON: a number is out of range");
  }
}

Json read_json_file(const std::string& path) { return parse_json(read_file(path), path); }

}  // namespace molt
