#include "molt/app/methods.h"

#include "molt/base/error.h"
#include "molt/base/near.h"
#include "molt/peft/full.h"
#include "molt/peft/lora.h"
#include "molt/peft/sdt.h"

namespace molt::app {
namespace {

template <class Config>
Config read_options(const MethodEntry& entry, Config config = {}) {
  YamlReader reader(entry.options);
  config.visit(reader);
  reader.finish();
  return config;
}

struct FullOptions {
  std::vector<std::string> train;
  template <class V>
  void visit(V& v) {
    v.field("train", train, "sites to train whole (default: all of the model)");
  }
};

}  // namespace

std::unique_ptr<nn::Method> make_method(const MethodEntry& entry, uint64_t seed, Dtype dtype) {
  if (entry.name == "lora") {
    peft::LoraConfig defaults;
    defaults.target_modules = {"in_proj", "x_proj", "out_proj"};
    return std::make_unique<peft::Lora>(read_options(entry, defaults), seed, dtype);
  }
  if (entry.name == "sdt") return std::make_unique<peft::Sdt>(read_options<peft::SdtConfig>(entry), dtype);
  if (entry.name == "full") return std::make_unique<peft::Full>(read_options<FullOptions>(entry).train);
  usage_error(entry.options.where(), ": method '", entry.name, "' is unknown; there is ",
              nearest(entry.name, method_names(), 3));
}

std::vector<std::unique_ptr<nn::Method>> make_methods(const std::vector<MethodEntry>& entries, uint64_t seed,
                                                      Dtype dtype) {
  std::vector<std::unique_ptr<nn::Method>> methods;
  for (const MethodEntry& entry : entries) methods.push_back(make_method(entry, seed, dtype));
  return methods;
}

std::vector<std::string> method_names() { return {"lora", "sdt", "full"}; }

}  // namespace molt::app
