// What every method with options shares: its name and its options, on disk in the words of its recipe entry. And how a
// method reads and writes PEFT's adapter_config.json.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "molt/base/json_writer.h"
#include "molt/nn/method.h"

namespace molt::peft {

/// `C` is a struct with kName, kSummary and visit().
template <class C>
class Configured : public nn::Method {
 public:
  using Config = C;
  std::string name() const override { return C::kName; }
  Json config_json() const override {
    JsonWriter writer;
    C copy = config_;
    copy.visit(writer);
    Json json = Json::parse(writer.json().dump());
    json["method"] = C::kName;
    return json;
  }
  const C& config() const { return config_; }

 protected:
  explicit Configured(C config) : config_(std::move(config)) {}
  C config_;
};

/// A method as a peer's config describes it: our name, our options.
struct MethodOptions {
  std::string name;
  Json options;
};

/// Whether a config says something under a key: neither absent nor null, false, 0 or empty.
bool is_set(const Json& config, const char* key);
/// Throws UsageError naming the key where one of `keys` is set: it would change what the adapter means.
void refuse_set(const Json& config, const std::vector<const char*>& keys, const std::string& where);
/// Those of `keys` that are there and not null.
Json taken(const Json& config, const std::vector<const char*>& keys);
/// A text that a file may say; anything else in its place is refused.
std::string text_in(const Json& object, const char* key, const std::string& where, const std::string& absent = "");
/// The fields every adapter_config.json of PEFT has, for causal language models. Whole numbers in it are written as
/// such: json_number(8.0) is 8.
Json peft_base(const char* peft_type);
Json json_number(double value);

}  // namespace molt::peft
