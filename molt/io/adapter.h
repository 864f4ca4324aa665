// Adapter directories as Hugging Face PEFT writes them: adapter_config.json and adapter_model.safetensors (or .bin),
// and how their keys are spelt. Files only: what a config means belongs to the methods.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "molt/base/json.h"
#include "molt/io/safetensors.h"

namespace molt::io {

struct AdapterFiles {
  Json config = Json::object();  ///< adapter_config.json
  NamedTensors tensors;          ///< keys as in the file, sorted when read
};

/// Reads an adapter directory; tensors are views of the mapped file. adapter_model.safetensors goes before
/// adapter_model.bin. Throws UsageError: no such directory, a missing file (a half-written adapter has no config), a
/// config that is not an object.
AdapterFiles read_adapter(const std::string& directory);

/// Writes an adapter directory so that a crash leaves the old adapter, the new one, or a directory without config that
/// read_adapter refuses, never a mixture. Other files in an existing directory stay; an old adapter_model.bin goes.
/// Throws SystemError when the disk refuses.
void write_adapter(const std::string& directory, const AdapterFiles& adapter);

/// A PEFT key taken apart: "base_model.model.backbone.layers.0.mixer.in_proj.lora_A.weight" is the module
/// "backbone.layers.0.mixer.in_proj" and the suffix "lora_A.weight".
struct PeftKey {
  std::string module;  ///< empty for prompt_embeddings, which PEFT stores under that bare name
  std::string suffix;  ///< "lora_A.weight", "lora_embedding_A", "lora_magnitude_vector", "ia3_l", "weight", "A_log", …
};

/// "base_model.model." + module + "." + suffix; the bare suffix for an empty module.
std::string peft_key(std::string_view module, std::string_view suffix);

/// The reverse. An adapter's name between part and weight ("lora_A.default.weight", in files saved by hand) is dropped.
/// What no method's suffix ends is split at the last dot: a whole tensor saved by modules_to_save ("weight") or a bare
/// parameter ("A_log"). Nothing when the key lacks the prefix and is not prompt_embeddings.
std::optional<PeftKey> split_peft_key(std::string_view key);

}  // namespace molt::io
