// A family's parts in GGUF: how llama.cpp calls them, and what it wants of their values. Data, like the family itself.
#pragma once

#include <string>

#include "molt/io/gguf.h"
#include "molt/nn/language_model.h"

namespace molt::models {

struct GgufForm {
  const char* architecture;  ///< general.architecture
  /// The tensor of a parameter ("blk.0.ssm_in.weight"); empty where the architecture has none for it.
  std::string (*tensor)(const std::string& path);
  /// The reverse: the parameter of a tensor, or empty.
  std::string (*parameter)(const std::string& tensor);
  /// Sizes and other facts under the architecture's keys. Throws UsageError, beginning with `where`, for a plan that
  /// llama.cpp does not load.
  io::GgufMetadata (*metadata)(const nn::LanguageModelPlan& plan, const std::string& where);
  /// A parameter's f32 values as the tensor holds them.
  Tensor (*values)(const std::string& path, const Tensor& values);
  /// Tensors that the architecture asks for and the model lacks, as no change: a convolution's bias of zeros.
  io::NamedTensors (*missing)(const nn::LanguageModelPlan& plan);
};

extern const GgufForm kMambaGguf;

}  // namespace molt::models
