// Several adapters beside each other on one base, each alone or as a weighted sum of LoRAs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "molt/app/adapter.h"

namespace molt::app {

/// What a user asks for: DIR, DIR:WEIGHT, sums of these (DIR:0.5+DIR2:0.5), and a name before it (a=DIR).
struct AdapterSpec {
  struct Part {
    std::string directory;
    double weight = 1;
  };
  std::string name;  ///< or empty
  std::vector<Part> parts;
};

/// Reads one. A directory that is called just so goes before every sign. Throws UsageError, beginning with --adapter.
AdapterSpec read_adapter_spec(const std::string& text);

class AdapterSet {
 public:
  /// Opens all of them, as LoadedAdapter does; the weights must not be there yet. Throws UsageError for names that
  /// stand twice or (among several) are missing, sums of what is no LoRA, and, among several, what changes the base
  /// itself.
  AdapterSet(std::vector<AdapterSpec> specs, models::LoadedModel& base, Dtype dtype);
  /// After load_weights().
  void finish();

  size_t size() const { return adapters_.size(); }
  const std::string& name(size_t i) const { return adapters_[i].spec.name; }
  const nn::EditSet& edits(size_t i) const { return adapters_[i].edits; }
  /// The adapter of a name. Throws UsageError, beginning with `where`, listing those there are.
  size_t find(const std::string& name, const std::string& where) const;

 private:
  struct Adapter {
    AdapterSpec spec;
    std::vector<std::unique_ptr<LoadedAdapter>> loaded;  // of each part
    nn::EditSet edits;
  };
  std::vector<Adapter> adapters_;
};

}  // namespace molt::app
