#include "molt/app/methods.h"

#include <algorithm>
#include <functional>

#include "molt/base/error.h"
#include "molt/base/near.h"
#include "molt/peft/adalora.h"
#include "molt/peft/additional_scan.h"
#include "molt/peft/boft.h"
#include "molt/peft/diffora.h"
#include "molt/peft/full.h"
#include "molt/peft/ia3.h"
#include "molt/peft/initial_state.h"
#include "molt/peft/lora.h"
#include "molt/peft/lycoris.h"
#include "molt/peft/miss.h"
#include "molt/peft/oft.h"
#include "molt/peft/prefix.h"
#include "molt/peft/prodial.h"
#include "molt/peft/prompt.h"
#include "molt/peft/residual.h"
#include "molt/peft/sdt.h"
#include "molt/peft/slora.h"
#include "molt/peft/state_offset.h"
#include "molt/peft/trainable_tokens.h"
#include "molt/peft/vectors.h"
#include "molt/peft/vera.h"
#include "molt/peft/xgblora.h"

namespace molt::app {
namespace {

/// What the program knows of a method.
struct MethodKind {
  std::string name, summary;
  std::vector<std::string> peft_types;  ///< whose adapters it reads; empty: PEFT has no such method
  std::function<OptionList()> options;
  std::function<std::unique_ptr<nn::Method>(YamlReader&, uint64_t seed, Dtype)> make;
  std::function<void(YamlReader&, JsonWriter&)> resolve;
  std::function<std::vector<peft::MethodOptions>(const Json&, const std::string& where)> from_peft;
};

/// A method class M: M::Config with kName, kSummary, visit(); made from (Config, seed, dtype) or less of it. One that
/// PEFT has too brings kPeftType and from_peft(), and kAlsoPeftType where it reads what another of PEFT's writes.
template <class M>
MethodKind kind() {
  using Config = typename M::Config;
  MethodKind k;
  k.name = Config::kName;
  k.summary = Config::kSummary;
  k.options = [] { return options_of(Config()); };
  k.make = [](YamlReader& reader, uint64_t seed, Dtype dtype) -> std::unique_ptr<nn::Method> {
    Config config;
    config.visit(reader);
    reader.finish();
    if constexpr (std::is_constructible_v<M, Config, uint64_t, Dtype>) {
      return std::make_unique<M>(std::move(config), seed, dtype);
    } else if constexpr (std::is_constructible_v<M, Config, Dtype>) {
      return std::make_unique<M>(std::move(config), dtype);
    } else {
      return std::make_unique<M>(std::move(config));
    }
  };
  k.resolve = [](YamlReader& reader, JsonWriter& writer) {
    Config config;
    config.visit(reader);
    reader.finish();
    config.visit(writer);
  };
  if constexpr (requires { M::kPeftType; }) {
    k.peft_types = {M::kPeftType};
    if constexpr (requires { M::kAlsoPeftType; }) k.peft_types.push_back(M::kAlsoPeftType);
    k.from_peft = &M::from_peft;
  }
  return k;
}

const std::vector<MethodKind>& kinds() {
  static const std::vector<MethodKind> kAll = {
      kind<peft::Lora>(),
      kind<peft::Sdt>(),
      kind<peft::Full>(),
      // Before the first token, and beside the scan.
      kind<peft::InitialState>(),
      kind<peft::PrefixTuning>(),
      kind<peft::PromptTuning>(),
      kind<peft::StateOffset>(),
      kind<peft::AdditionalScan>(),
      kind<peft::Residual>(),
      // In the weights.
      kind<peft::BitFit>(),
      kind<peft::LnTuning>(),
      kind<peft::Ia3>(),
      kind<peft::AdaLora>(),
      kind<peft::XgbLora>(),
      kind<peft::Slora>(),
      kind<peft::Vera>(),
      kind<peft::Loha>(),
      kind<peft::Lokr>(),
      kind<peft::Oft>(),
      kind<peft::Boft>(),
      kind<peft::Miss>(),
      kind<peft::Prodial>(),
      kind<peft::Diffora>(),
      kind<peft::TrainableTokens>(),
  };
  return kAll;
}

const MethodKind* find_kind(const std::string& name) {
  for (const MethodKind& k : kinds()) {
    if (k.name == name) return &k;
  }
  return nullptr;
}

const MethodKind& kind_of(const MethodEntry& entry) {
  if (const MethodKind* k = find_kind(entry.name)) return *k;
  usage_error(entry.options.where(), ": method '", entry.name, "' is unknown; there is ",
              nearest(entry.name, method_names(), 3));
}

const MethodKind& known(const std::string& name) {
  const MethodKind* k = find_kind(name);
  MOLT_CHECK(k, "methods: no method '", name, "'");
  return *k;
}

/// Writes only what is set, so that a recipe as resolved reads as before.
struct SetOnly {
  JsonWriter& writer;
  template <class T>
  void field(const char* name, std::optional<T>& value, const char* help) {
    if (value) writer.field(name, *value, help);
  }
};

}  // namespace

std::unique_ptr<nn::Method> make_method(const MethodEntry& entry, uint64_t seed, Dtype dtype) {
  const MethodKind& k = kind_of(entry);
  YamlReader reader(entry.options);
  nn::Rates rates;
  rates.visit(reader);
  auto method = k.make(reader, seed, dtype);
  if (rates.learning_rate && !(*rates.learning_rate > 0))
    usage_error(entry.options.where(), ": learning_rate must be above 0, is ", *rates.learning_rate);
  if (rates.weight_decay && !(*rates.weight_decay >= 0))
    usage_error(entry.options.where(), ": weight_decay must not be negative, is ", *rates.weight_decay);
  method->rates = rates;
  return method;
}

std::vector<std::unique_ptr<nn::Method>> make_methods(const std::vector<MethodEntry>& entries, uint64_t seed,
                                                      Dtype dtype) {
  std::vector<std::unique_ptr<nn::Method>> methods;
  for (const MethodEntry& entry : entries) methods.push_back(make_method(entry, seed, dtype));
  return methods;
}

OptionList method_options(const std::string& name) { return known(name).options(); }
OptionList common_options() { return options_of(nn::Rates()); }
std::string method_summary(const std::string& name) { return known(name).summary; }

OrderedJson resolved_options(const MethodEntry& entry) {
  const MethodKind& k = kind_of(entry);
  YamlReader reader(entry.options);
  nn::Rates rates;
  rates.visit(reader);
  JsonWriter writer;
  k.resolve(reader, writer);
  SetOnly set{writer};
  rates.visit(set);
  return writer.json();
}

std::vector<std::string> method_names() {
  std::vector<std::string> names;
  for (const MethodKind& k : kinds()) names.push_back(k.name);
  return names;
}

std::vector<std::string> peft_types() {
  std::vector<std::string> types;
  for (const MethodKind& k : kinds()) types.insert(types.end(), k.peft_types.begin(), k.peft_types.end());
  return types;
}

std::vector<peft::MethodOptions> entries_from_peft(const Json& config, const std::string& where) {
  const std::string type = peft::text_in(config, "peft_type", where, "nothing");
  for (const MethodKind& k : kinds()) {
    if (std::count(k.peft_types.begin(), k.peft_types.end(), type)) return k.from_peft(config, where);
  }
  std::string types;
  for (const std::string& t : peft_types()) types += (types.empty() ? "" : ", ") + t;
  usage_error(where, ": peft_type is ", type, "; without molt.json only ", types, " can be read");
}

}  // namespace molt::app
