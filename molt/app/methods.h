// The methods there are, by their recipe words.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "molt/app/options.h"
#include "molt/app/recipe.h"
#include "molt/nn/method.h"

namespace molt::app {

/// Builds a method from its recipe entry. Throws UsageError for an unknown name or option. `dtype`: of its trainables.
std::unique_ptr<nn::Method> make_method(const MethodEntry& entry, uint64_t seed, Dtype dtype);

std::vector<std::unique_ptr<nn::Method>> make_methods(const std::vector<MethodEntry>& entries, uint64_t seed,
                                                      Dtype dtype);

/// A method's options with their defaults.
OptionList method_options(const std::string& name);

/// An entry's options as resolved: every key with its value. Throws as make_method() does.
OrderedJson resolved_options(const MethodEntry& entry);

/// "lora", "sdt", "full".
std::vector<std::string> method_names();

}  // namespace molt::app
