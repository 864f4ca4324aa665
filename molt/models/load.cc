#include "molt/models/load.h"

#include <set>

#include "molt/base/error.h"
#include "molt/base/log.h"

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

}  // namespace

LoadedModel open_model(const std::string& directory, const nn::Precision& precision) {
  LoadedModel loaded;
  loaded.checkpoint = std::make_shared<const io::Checkpoint>(directory);
  loaded.config = loaded.checkpoint->config();
  const std::string where = directory + "/config.json";
  loaded.family = &family_of(loaded.config, where);
  loaded.model = std::make_unique<nn::LanguageModel>(loaded.family->plan(loaded.config, where), precision);
  return loaded;
}

std::string stored_name(const LoadedModel& loaded, const std::string& path) {
  if (loaded.checkpoint->has(path)) return path;
  for (const std::string& alias : loaded.family->aliases(path)) {
    if (loaded.checkpoint->has(alias)) return alias;
  }
  return "";
}

void load_weights(LoadedModel& loaded) {
  const io::Checkpoint& checkpoint = *loaded.checkpoint;
  std::set<std::string> used;
  std::string problems;
  int count = 0;
  auto problem = [&](const std::string& text) {
    if (++count <= 8) problems += (problems.empty() ? "" : "; ") + text;
  };
  for (nn::Parameter& p : loaded.model->parameters()) {
    const std::string name = stored_name(loaded, p.path);
    if (name.empty()) {
      problem(str(p.path, " ", shape_str(p.shape), " is missing"));
      continue;
    }
    used.insert(name);
    const Tensor source = checkpoint.tensor(name);
    if (!same_but_for_ones(source.shape(), p.shape)) {
      problem(str(name, " is ", shape_str(source.shape()), ", config.json asks for ", shape_str(p.shape)));
      continue;
    }
    if (problems.empty()) p.set(source, loaded.model->precision(), true);
  }
  for (const std::string& name : checkpoint.names()) {
    if (used.count(name) == 0 && !(loaded.model->plan().tied_head && name == "lm_head.weight"))
      problem(str(name, " is not part of a ", loaded.family->name, " model"));
  }
  if (count > 0)
    usage_error(checkpoint.directory(), ": ", problems, count > 8 ? str("; and ", count - 8, " more") : std::string());
}

void initialise_weights(LoadedModel& loaded, uint64_t seed) {
  for (nn::Parameter& p : loaded.model->parameters())
    p.set(loaded.family->initial(p, loaded.model->plan(), seed), loaded.model->precision(), true);
}

}  // namespace molt::models
