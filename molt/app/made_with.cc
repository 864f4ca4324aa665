#include "molt/app/made_with.h"

#include "molt/base/error.h"

namespace molt::app {

Json made_with(const data::Data& data) {
  Json all = Json::object();
  auto add = [&](const char* name, const std::shared_ptr<const data::Source>& source) {
    if (source) all[name] = std::to_string(source->fingerprint());
  };
  add("training data", data.train);
  add("validation data", data.validation);
  add("test data", data.test);
  return all;
}

void SameMaterial::check(const Variant& variant) {
  const Json result = read_json_file(variant.directory + "/result.json");
  const Json made = result.is_object() ? result.value("made_with", Json()) : Json();
  if (!made.is_object()) return;  // of a version that did not keep it
  const auto& r = variant.recipe;
  const std::string named =
      Json{Json(r.resolved().at("data").dump()), Json(r.model), Json(r.tokenizer), Json(r.evaluation.metric)}.dump();
  const auto [at, is_first] = first_.emplace(named, Result{variant.directory, made});
  if (is_first) return;
  for (const auto& [what, fingerprint] : made.items()) {
    const Json& was = at->second.made_with;
    if (was.contains(what) && was[what] != fingerprint)
      usage_error(variant.directory, ": was made with other ", what, " than ", at->second.directory,
                  ", so their results cannot be compared; remove the older of the two to have it done again");
  }
}

}  // namespace molt::app
