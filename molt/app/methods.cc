#include "molt/app/methods.h"

#include "molt/base/error.h"
#include "molt/base/near.h"
#include "molt/peft/full.h"
#include "molt/peft/lora.h"
#include "molt/peft/sdt.h"

namespace molt::app {
namespace {

struct FullOptions {
  std::vector<std::string> train;
  template <class V>
  void visit(V& v) {
    v.field("train", train, "sites to train whole (default: all of the model)");
  }
};

struct Build {
  uint64_t seed;
  Dtype dtype;
  std::unique_ptr<nn::Method> operator()(const peft::LoraConfig& c) const {
    return std::make_unique<peft::Lora>(c, seed, dtype);
  }
  std::unique_ptr<nn::Method> operator()(const peft::SdtConfig& c) const {
    return std::make_unique<peft::Sdt>(c, dtype);
  }
  std::unique_ptr<nn::Method> operator()(const FullOptions& c) const { return std::make_unique<peft::Full>(c.train); }
};

/// Calls f with the method's options, filled with their defaults. False for an unknown name.
template <class F>
bool with_defaults(const std::string& name, const F& f) {
  if (name == "lora") {
    peft::LoraConfig config;
    config.target_modules = {"in_proj", "x_proj", "out_proj"};
    f(config);
  } else if (name == "sdt") {
    f(peft::SdtConfig());
  } else if (name == "full") {
    f(FullOptions());
  } else {
    return false;
  }
  return true;
}

/// The same with the options an entry gives.
template <class F>
void with_options(const MethodEntry& entry, const F& f) {
  const bool known = with_defaults(entry.name, [&](auto config) {
    YamlReader reader(entry.options);
    config.visit(reader);
    reader.finish();
    f(config);
  });
  if (!known)
    usage_error(entry.options.where(), ": method '", entry.name, "' is unknown; there is ",
                nearest(entry.name, method_names(), 3));
}

}  // namespace

std::unique_ptr<nn::Method> make_method(const MethodEntry& entry, uint64_t seed, Dtype dtype) {
  std::unique_ptr<nn::Method> method;
  with_options(entry, [&](const auto& config) { method = Build{seed, dtype}(config); });
  return method;
}

OptionList method_options(const std::string& name) {
  OptionList list;
  const bool known = with_defaults(name, [&](auto config) { config.visit(list); });
  MOLT_CHECK(known, "method_options: no method '", name, "'");
  return list;
}

OrderedJson resolved_options(const MethodEntry& entry) {
  JsonWriter writer;
  with_options(entry, [&](auto config) { config.visit(writer); });
  return writer.json();
}

std::vector<std::unique_ptr<nn::Method>> make_methods(const std::vector<MethodEntry>& entries, uint64_t seed,
                                                      Dtype dtype) {
  std::vector<std::unique_ptr<nn::Method>> methods;
  for (const MethodEntry& entry : entries) methods.push_back(make_method(entry, seed, dtype));
  return methods;
}

std::vector<std::string> method_names() { return {"lora", "sdt", "full"}; }

}  // namespace molt::app
