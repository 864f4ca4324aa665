// The methods there are, by their recipe words. Each is one entry of the list in methods.cc.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "molt/app/options.h"
#include "molt/app/recipe.h"
#include "molt/nn/method.h"
#include "molt/peft/configured.h"

namespace molt::app {

/// Builds a method from its recipe entry. Throws UsageError for an unknown name or option. `dtype`: of its trainables.
std::unique_ptr<nn::Method> make_method(const MethodEntry& entry, uint64_t seed, Dtype dtype);

std::vector<std::unique_ptr<nn::Method>> make_methods(const std::vector<MethodEntry>& entries, uint64_t seed,
                                                      Dtype dtype);

/// A method's own options with their defaults; and those that every method takes beside them.
OptionList method_options(const std::string& name);
OptionList common_options();
/// What it is, in a line.
std::string method_summary(const std::string& name);

/// An entry's options as resolved: every key with its value (of the common ones those that are set). Throws as
/// make_method() does.
OrderedJson resolved_options(const MethodEntry& entry);

/// "lora", "sdt", "full", …
std::vector<std::string> method_names();

/// A PEFT adapter_config.json as recipe entries, by the methods that know its peft_type. Throws UsageError for a
/// peft_type that none knows and for options that cannot be honoured.
std::vector<peft::MethodOptions> entries_from_peft(const Json& config, const std::string& where);
/// The peft_types that can be read, "LORA", …
std::vector<std::string> peft_types();

}  // namespace molt::app
