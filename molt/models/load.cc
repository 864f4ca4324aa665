#include "molt/models/load.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "molt/base/error.h"
#include "molt/base/log.h"
#include "molt/io/finite.h"

namespace molt::models {
namespace {

/// Whether shapes agree once dimensions of 1 are dropped: torch keeps a depthwise convolution as (E, 1, K).
bool same_but_for_ones(const Shape& a, const Shape& b) {
  auto squeezed = [](const Shape& s) {
    Shape out;
    for (const int64_t d : s) {
      if (d != 1) out.push_back(d);
    }
    return out;
  };
  return squeezed(a) == squeezed(b);
}

LoadedModel planned(LoadedModel loaded, const std::string& directory, const nn::Precision& precision) {
  const std::string where = directory + "/config.json";
  loaded.family = &family_of(loaded.config, where);
  loaded.model = std::make_unique<nn::LanguageModel>(loaded.family->plan(loaded.config, where), precision);
  return loaded;
}

}  // namespace

LoadedModel open_model(const std::string& directory, const nn::Precision& precision) {
  LoadedModel loaded;
  loaded.checkpoint = std::make_shared<const io::Checkpoint>(directory);
  loaded.config = loaded.checkpoint->config();
  return planned(std::move(loaded), directory, precision);
}

LoadedModel open_outline(const std::string& directory, const nn::Precision& precision) {
  const auto there = [&](const char* name) { return std::filesystem::exists(std::filesystem::path(directory) / name); };
  const bool weights = there("model.safetensors") || there("model.safetensors.index.json") ||
                       there("pytorch_model.bin") || there("pytorch_model.bin.index.json");
  if (weights || !there("config.json")) return open_model(directory, precision);
  LoadedModel loaded;
  loaded.config = io::read_python_json(directory + "/config.json");
  return planned(std::move(loaded), directory, precision);
}

std::string stored_name(const LoadedModel& loaded, const std::string& path) {
  if (loaded.checkpoint->has(path)) return path;
  for (const std::string& alias : loaded.family->aliases(path)) {
    if (loaded.checkpoint->has(alias)) return alias;
  }
  return "";
}

std::vector<std::string> weight_problems(const LoadedModel& loaded) {
  const io::Checkpoint& checkpoint = *loaded.checkpoint;
  std::set<std::string> used;
  std::vector<std::string> problems;
  for (const nn::Parameter& p : loaded.model->parameters()) {
    const std::string name = stored_name(loaded, p.path);
    if (name.empty()) {
      problems.push_back(str(p.path, " ", shape_str(p.shape), " is missing"));
      continue;
    }
    used.insert(name);
    const io::TensorInfo info = checkpoint.info(name);
    if (!same_but_for_ones(info.shape, p.shape)) {
      problems.push_back(str(name, " is ", shape_str(info.shape), ", config.json asks for ", shape_str(p.shape)));
    } else if (!info.dtype->dtype || !io::is_float(*info.dtype->dtype)) {
      problems.push_back(str(name, " is ", info.dtype->word, ", expected F32, F16 or BF16"));
    }
  }
  for (const std::string& name : checkpoint.names()) {
    if (used.count(name) == 0 && !(loaded.model->plan().tied_head && name == "lm_head.weight"))
      problems.push_back(str(name, " is not part of a ", loaded.family->name, " model"));
  }
  return problems;
}

void check_weights(const LoadedModel& loaded) {
  const std::vector<std::string> problems = weight_problems(loaded);
  if (!problems.empty()) {
    constexpr size_t kShown = 3;
    std::string text;
    for (size_t i = 0; i < std::min(problems.size(), kShown); ++i) text += (i ? "; " : "") + problems[i];
    if (problems.size() > kShown) text += str("; and ", problems.size() - kShown, " more");
    usage_error(loaded.checkpoint->directory(), ": ", text);
  }
}

void load_weights(LoadedModel& loaded) {
  check_weights(loaded);
  for (nn::Parameter& p : loaded.model->parameters()) {
    const std::string name = stored_name(loaded, p.path);
    const Tensor values = loaded.checkpoint->tensor(name);
    if (!io::all_finite(values))
      usage_error(loaded.checkpoint->directory(), ": ", name, " holds values that are not finite (NaN or infinity)");
    p.set(values, loaded.model->precision(), true);
    loaded.checkpoint->release();
  }
}

void initialise_weights(LoadedModel& loaded, uint64_t seed) {
  for (nn::Parameter& p : loaded.model->parameters())
    p.set(loaded.family->initial(p, loaded.model->plan(), seed), loaded.model->precision(), true);
}

}  // namespace molt::models
