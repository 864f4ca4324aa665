#include "molt/app/adapter_set.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "molt/base/error.h"
#include "molt/base/near.h"
#include "molt/peft/lora_adapter.h"

namespace molt::app {
namespace {

namespace fs = std::filesystem;

bool is_directory(const std::string& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

AdapterSpec::Part read_part(const std::string& text) {
  if (text.empty()) usage_error("--adapter: expected a directory, found none; sums are DIR:WEIGHT+DIR:WEIGHT");
  const size_t colon = text.rfind(':');
  if (is_directory(text) || colon == std::string::npos) return {text, 1};
  const std::string number = text.substr(colon + 1);
  char* end = nullptr;
  const double weight = std::strtod(number.c_str(), &end);
  if (number.empty() || *end != '\0') return {text, 1};  // a directory that is not there: its reader says so
  if (!std::isfinite(weight)) usage_error("--adapter: ", text, ": expected a finite weight, found '", number, "'");
  return {text.substr(0, colon), weight};
}

/// Why a part of a sum is none: only low-rank changes add up and can be weighed.
void check_addable(const LoadedAdapter& adapter, const std::string& directory) {
  for (const nn::Method* method : adapter.methods()) {
    const bool dora = method->name() == "lora" && method->config_json().value("use_dora", false);
    if (method->name() != "lora" || dora)
      usage_error("--adapter: ", directory, " holds ", dora ? "lora with use_dora" : method->name(),
                  "; only lora can be weighed and added");
  }
}

}  // namespace

AdapterSpec read_adapter_spec(const std::string& text) {
  AdapterSpec spec;
  std::string rest = text;
  const size_t equals = text.find('=');
  if (!is_directory(text) && equals != std::string::npos && text.find('/') > equals) {
    spec.name = text.substr(0, equals);
    rest = text.substr(equals + 1);
    if (spec.name.empty()) usage_error("--adapter: ", text, ": expected a name before '='");
    if (spec.name == "none") usage_error("--adapter: 'none' means the base without an adapter; choose another name");
  }
  if (is_directory(rest)) {
    spec.parts.push_back({rest, 1});
    return spec;
  }
  for (size_t begin = 0; begin <= rest.size();) {
    const size_t end = std::min(rest.find('+', begin), rest.size());
    spec.parts.push_back(read_part(rest.substr(begin, end - begin)));
    begin = end + 1;
  }
  return spec;
}

AdapterSet::AdapterSet(std::vector<AdapterSpec> specs, models::LoadedModel& base, Dtype dtype) {
  for (AdapterSpec& spec : specs) {
    if (specs.size() > 1 && spec.name.empty())
      usage_error("--adapter: several were given; give each a name, such as --adapter a=", spec.parts[0].directory);
    for (const Adapter& other : adapters_) {
      if (other.spec.name == spec.name) usage_error("--adapter: two are called '", spec.name, "'");
    }
    Adapter adapter;
    const bool sum = spec.parts.size() > 1 || spec.parts[0].weight != 1;
    for (const AdapterSpec::Part& part : spec.parts) {
      adapter.loaded.push_back(std::make_unique<LoadedAdapter>(part.directory, base, dtype));
      if (sum) check_addable(*adapter.loaded.back(), part.directory);
      for (const nn::Parameter& p : base.model->parameters()) {
        if (p.trained && specs.size() > 1)
          usage_error("--adapter: ", part.directory, " holds ", adapter.loaded.back()->methods()[0]->name(),
                      ", which changes the base itself (", p.path, "), so no other can stand beside it");
      }
    }
    adapter.spec = std::move(spec);
    adapters_.push_back(std::move(adapter));
  }
}

void AdapterSet::finish() {
  for (Adapter& adapter : adapters_) {
    for (size_t i = 0; i < adapter.loaded.size(); ++i) {
      LoadedAdapter& loaded = *adapter.loaded[i];
      loaded.finish();
      nn::EditSet own;
      loaded.bind(own);
      const double weight = adapter.spec.parts[i].weight;
      for (const auto& [site, edit] : own.all()) {
        if (auto* lora = dynamic_cast<peft::LoraAdapter*>(edit.get()); lora && weight != 1) lora->weigh(weight);
      }
      loaded.bind(adapter.edits);
    }
  }
}

size_t AdapterSet::find(const std::string& name, const std::string& where) const {
  std::vector<std::string> names;
  for (size_t i = 0; i < adapters_.size(); ++i) {
    if (adapters_[i].spec.name == name) return i;
    if (!adapters_[i].spec.name.empty()) names.push_back(adapters_[i].spec.name);
  }
  if (names.empty()) usage_error(where, ": no adapter is called '", name, "'; name it with --adapter ", name, "=DIR");
  names.push_back("none");
  usage_error(where, ": no adapter is called '", name, "'; there is ", nearest(name, names, 4));
}

}  // namespace molt::app
