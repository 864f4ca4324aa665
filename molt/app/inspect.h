// What lies at a path: a base model, an adapter, a run, or one file of tensors. Nothing is loaded; files are mapped and
// their headers checked.
#pragma once

#include <string>
#include <vector>

#include "molt/base/json.h"
#include "molt/io/tensor_file.h"
#include "molt/train/report.h"

namespace molt::app {

/// One tensor as its file holds it.
struct TensorRow {
  std::string name;
  std::string dtype;  ///< safetensors' word: "F32"
  Shape shape;
  int64_t numbers = 0;
  int64_t bytes = 0;
};

/// What an adapter holds for parts that are alike but for their layer.
struct PartRow {
  std::string pattern;  ///< "backbone.layers.{0..7}.mixer.x_proj"
  std::string holds;    ///< "lora_A.weight (8, 512), lora_B.weight (48, 8)": of one part
  int64_t parts = 0;
  int64_t numbers = 0;  ///< of all
  int64_t bytes = 0;
};

struct Inspection {
  std::string kind;  ///< "base model", "adapter", "mlx-lm adapter", "GGUF adapter", "GGUF model", "run", "tensor file"
  train::Facts facts;                 ///< in the order to show
  std::vector<std::string> notes;     ///< worth knowing
  std::vector<std::string> problems;  ///< what keeps Molt from using it
  std::vector<TensorRow> tensors;     ///< sorted by name; none for a run
  std::vector<PartRow> parts;         ///< of an adapter
};

/// Looks at what `path` is and calls one of those below. `base`: an adapter's base, where it is not at the path the
/// adapter names. Throws UsageError where it is nothing known, or too broken to look into.
Inspection inspect(const std::string& path, const std::string& base = "");

/// A directory with config.json and weights.
Inspection inspect_base(const std::string& directory);
/// A directory with adapter_config.json. Where its base is there (at `base`, or the path it names), the adapter's
/// targets are looked up in it and the fingerprints compared.
Inspection inspect_adapter_directory(const std::string& directory, const std::string& base = "");
/// A directory with run.json.
Inspection inspect_run(const std::string& directory);
/// A directory with adapters.safetensors, as mlx-lm writes it.
Inspection inspect_mlx_adapter(const std::string& directory);
/// A .gguf file, a model or an adapter.
Inspection inspect_gguf(const std::string& path);
/// A .safetensors or torch.save file.
Inspection inspect_tensor_file(const std::string& path);

/// A tensor file's or an adapter's tensors as rows.
TensorRow tensor_row(const std::string& name, const io::TensorInfo& info);
/// A tensor of an adapter, taken apart.
struct PartTensor {
  std::string module, suffix;
  TensorRow row;
};
/// Tensors of an adapter by the part they belong to, parts that are alike as one.
std::vector<PartRow> part_rows(const std::vector<PartTensor>& tensors);
/// "F32 129 M (493 MiB), I64 96 (768 bytes)"
std::string dtype_summary(const std::vector<TensorRow>& tensors);
/// A method's options as a recipe would give them, without empty ones: "r: 8, lora_alpha: 16".
std::string options_text(const Json& options);
/// Bytes of a file, or of all files below a directory.
int64_t size_on_disk(const std::string& path);

}  // namespace molt::app
