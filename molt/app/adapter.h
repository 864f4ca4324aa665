// Adapters on disk: HF PEFT's form where PEFT has the method, the same form under our own peft_type where it has not.
// Beside it, molt.json says what PEFT's form cannot: the format version, the base's fingerprint, the methods as Molt
// configures them (slices stay slices).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "molt/app/recipe.h"
#include "molt/io/adapter.h"
#include "molt/models/load.h"
#include "molt/nn/method.h"

namespace molt::app {

/// Writes an adapter directory. Returns what a user must know of it: what peers will refuse or ignore.
std::vector<std::string> save_adapter(const std::string& directory, const std::vector<nn::Method*>& methods,
                                      const models::LoadedModel& base, const std::string& base_path);

/// What PEFT and transformers would refuse or ignore of an adapter on a Mamba model; empty where they read it as it is.
std::vector<std::string> peer_notes(const io::AdapterFiles& files);

/// What an adapter directory says before it is attached to a model.
struct AdapterInfo {
  Json config;  ///< adapter_config.json
  Json molt;    ///< molt.json, or null for a peer's adapter
  std::vector<std::string> method_names;
  std::string base;  ///< directory or name of the model it was trained on, where it says so
};
AdapterInfo inspect_adapter(const std::string& directory);

/// Throws UsageError where a method goes on `from` adapters that say they were trained on another base.
void check_earlier_adapters(const std::vector<MethodEntry>& methods, const models::LoadedModel& base);

/// Reads an adapter's methods, attaches them to `base` and loads their tensors. `declare` must have run before weights
/// were loaded where the adapter trains whole tensors, so this is done in two steps: make_adapter() builds and
/// declares, finish() attaches and loads. Throws UsageError for another base, unknown methods, tensors that do not fit.
class LoadedAdapter {
 public:
  LoadedAdapter(const std::string& directory, models::LoadedModel& base, Dtype trainable_dtype);
  /// After load_weights().
  void finish();
  std::vector<nn::Method*> methods() const;
  void bind(nn::EditSet& edits) const;

 private:
  std::string directory_;
  models::LoadedModel& base_;
  AdapterInfo info_;
  std::vector<std::unique_ptr<nn::Method>> methods_;
};

}  // namespace molt::app
