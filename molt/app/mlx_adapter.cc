// LoRA adapters as mlx-lm keeps them: adapters.safetensors with `MODULE.lora_a` (in, r), `MODULE.lora_b` (r, out) and,
// for DoRA, `MODULE.m` (out); adapter_config.json with one rank and one plain scale for all.
#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "molt/app/lora_pairs.h"
#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/base/staged_directory.h"
#include "molt/io/checkpoint.h"
#include "molt/io/safetensors.h"

namespace molt::app {
namespace {

constexpr const char* kForm = "mlx-lm's adapter form";
constexpr const char* kWeights = "adapters.safetensors";
constexpr const char* kConfig = "adapter_config.json";

/// The part of a path behind its layer's: "mixer.in_proj"; empty outside the layers.
std::string within_layer(const nn::Site& site) {
  const std::string layers = str(".layers.", site.layer, ".");
  const size_t at = site.layer < 0 ? std::string::npos : site.path.find(layers);
  return at == std::string::npos ? "" : site.path.substr(at + layers.size());
}

/// What mlx-lm is to adapt: `keys` within each of the last `num_layers` layers where those are alike, else full paths.
struct Keys {
  std::vector<std::string> keys;
  int64_t num_layers = 0;
};

Keys keys_of(const LoraPairs& pairs, int64_t layers) {
  Keys k;
  std::map<int, std::set<std::string>> by_layer;
  std::set<std::string> outside, all;
  for (const LoraPair& p : pairs) {
    const std::string inner = within_layer(*p.site);
    (inner.empty() ? outside : by_layer[p.site->layer]).insert(inner.empty() ? p.site->path : inner);
    all.insert(p.site->path);
  }
  bool alike = !by_layer.empty() && by_layer.rbegin()->first == layers - 1 &&
               static_cast<int64_t>(by_layer.size()) == layers - by_layer.begin()->first;
  for (const auto& [layer, names] : by_layer) alike = alike && names == by_layer.begin()->second;
  k.num_layers = alike ? static_cast<int64_t>(by_layer.size()) : layers;
  if (alike) all = by_layer.begin()->second;
  if (alike) all.insert(outside.begin(), outside.end());
  k.keys.assign(all.begin(), all.end());
  return k;
}

double number_in(const Json& object, const char* key, const std::string& where) {
  const Json value = object.value(key, Json());
  if (!value.is_number()) usage_error(where, ": lora_parameters.", key, ": expected a number, found ", value.dump());
  return value.get<double>();
}

}  // namespace

void write_mlx_lora(const std::string& directory, const LoraPairs& pairs, const models::LoadedModel& base,
                    const std::string& base_path) {
  refuse_tied(pairs, base, "mlx-lm the head as well");
  int64_t rank = 0;
  bool one_scale = true, dora = false, plain = false;
  for (const LoraPair& p : pairs) {
    rank = std::max(rank, p.rank());
    one_scale = one_scale && p.scale == pairs[0].scale;
    (p.magnitude.defined() ? dora : plain) = true;
  }
  if (dora && plain)
    usage_error("some modules of this adapter have DoRA's magnitudes and some have not; ", kForm,
                " has one fine_tune_type for all");
  io::NamedTensors tensors;
  for (const LoraPair& p : pairs) {
    const Tensor a = Tensor::zeros({p.A.cols(), rank}, Dtype::kF32), b = Tensor::zeros({rank, p.B.rows()}, Dtype::kF32);
    a.col_range(0, p.rank()).copy_from(transposed(p.A));
    Tensor to = b.row_range(0, p.rank());
    to.copy_from(transposed(p.B));
    if (!one_scale) to.scale(p.scale);
    tensors.emplace_back(p.site->path + ".lora_a", a);
    tensors.emplace_back(p.site->path + ".lora_b", b);
    if (p.magnitude.defined()) tensors.emplace_back(p.site->path + ".m", p.magnitude);
  }
  const Keys keys = keys_of(pairs, static_cast<int64_t>(base.model->plan().layers.size()));
  const Json config = {
      {"model", base_path},
      {"fine_tune_type", dora ? "dora" : "lora"},
      {"num_layers", keys.num_layers},
      {"lora_parameters",
       {{"rank", rank}, {"scale", one_scale ? pairs[0].scale : 1.0}, {"dropout", 0.0}, {"keys", keys.keys}}}};
  StagedDirectory staged(directory);
  io::write_safetensors(staged.file(kWeights), tensors, {{"format", "mlx"}});
  write_file_atomic(staged.file(kConfig), config.dump(2) + "\n");
  staged.commit();
}

LoraPairs read_mlx_lora(const std::string& directory, const models::LoadedModel& base) {
  namespace fs = std::filesystem;
  const std::string where = (fs::path(directory) / kConfig).string();
  const Json config = io::read_python_json(where);
  if (!config.is_object()) usage_error(where, ": expected a JSON object, found ", config.type_name());
  const Json kind = config.value("fine_tune_type", Json("lora"));
  if (kind != "lora" && kind != "dora")
    usage_error(where, ": fine_tune_type is ", kind.dump(),
                "; Molt reads lora and dora (fuse others with mlx_lm.fuse)");
  const Json parameters = config.value("lora_parameters", Json());
  if (!parameters.is_object())
    usage_error(where, ": lora_parameters: expected an object, found ", parameters.type_name());
  const double scale = number_in(parameters, "scale", where);
  const io::SafetensorsFile file((fs::path(directory) / kWeights).string());
  LoraPairs pairs;
  std::set<std::string> used;
  const std::string end_a = ".lora_a", end_b = ".lora_b";
  for (const std::string& name : file.names()) {
    if (name.size() <= end_a.size() || name.compare(name.size() - end_a.size(), end_a.size(), end_a) != 0) continue;
    const std::string module = name.substr(0, name.size() - end_a.size());
    if (!file.has(module + end_b)) usage_error(file.path(), ": has ", name, " but no ", module, end_b);
    const Tensor a = file.tensor(name), b = file.tensor(module + end_b);
    if (a.rank() != 2 || b.rank() != 2)
      usage_error(file.path(), ": ", module, " has lora_a ", shape_str(a.shape()), " and lora_b ", shape_str(b.shape()),
                  "; expected matrices");
    pairs.push_back(fitting_pair(base, module, transposed(a), transposed(b), scale, file.path()));
    used.insert({name, module + end_b});
    if (kind != "dora") continue;
    if (!file.has(module + ".m")) usage_error(file.path(), ": fine_tune_type is dora, but ", module, ".m is missing");
    const Tensor m = file.tensor(module + ".m");
    if (m.shape() != Shape{pairs.back().site->shape[0]} || pairs.back().site->kind != nn::SiteKind::kLinear)
      usage_error(file.path(), ": ", module, ".m is ", shape_str(m.shape()),
                  "; expected one length per row of a linear");
    pairs.back().magnitude = m.to(Dtype::kF32);
    used.insert(module + ".m");
  }
  for (const std::string& name : file.names()) {
    if (!used.count(name))
      usage_error(file.path(), ": tensor ", name, " is no part of a LoRA pair; nothing was converted");
  }
  if (pairs.empty()) usage_error(file.path(), ": holds no LoRA pair");
  refuse_tied(pairs, base, "mlx-lm the head as well");
  return pairs;
}

}  // namespace molt::app
