// LoRA adapters as llama.cpp loads them: `TENSOR.lora_a` (R, in) and `TENSOR.lora_b` (out, R) under the base's GGUF
// names, one adapter.lora.alpha, scale = alpha / R of each pair. Of token_embd lora_a is stored transposed, (V, R).
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "molt/app/lora_pairs.h"
#include "molt/base/error.h"
#include "molt/io/gguf.h"
#include "molt/models/gguf_form.h"

namespace molt::app {
namespace {

constexpr const char* kEmbedding = "token_embd.weight";
const std::string kA = ".lora_a", kB = ".lora_b";

const models::GgufForm& form_of(const models::LoadedModel& base) {
  if (!base.family->gguf) usage_error("llama.cpp has no architecture for ", base.family->name, " models");
  return *base.family->gguf;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() > end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

void write_gguf_lora(const std::string& path, const LoraPairs& pairs, const models::LoadedModel& base) {
  const models::GgufForm& form = form_of(base);
  refuse_tied(pairs, base, "llama.cpp aborts on such an adapter");
  // The alpha of most modules is everybody's; so most tensors stay as they are.
  const auto alpha_of = [](const LoraPair& p) { return p.scale * static_cast<double>(p.rank()); };
  std::map<double, int> counts;
  for (const LoraPair& p : pairs) {
    if (p.magnitude.defined())
      usage_error("lora on ", p.site->path,
                  " has DoRA's magnitudes, which llama.cpp's adapters have not; make a merged "
                  "file: `molt merge --format gguf`");
    ++counts[alpha_of(p)];
  }
  double alpha = std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) {
                   return a.second < b.second;
                 })->first;
  // Zero means to llama.cpp that there is no alpha; and the file has it in f32.
  if (alpha == 0 || static_cast<double>(static_cast<float>(alpha)) != alpha)
    alpha = alpha == 0 ? 1 : static_cast<double>(static_cast<float>(alpha));
  io::NamedTensors tensors;
  for (const LoraPair& p : pairs) {
    const std::string name = form.tensor(p.site->parameter->path);
    if (name.empty()) usage_error("lora on ", p.site->path, ": llama.cpp's ", form.architecture, " has no such tensor");
    Tensor b = p.B;
    if (alpha_of(p) != alpha) {
      b = b.clone();
      b.scale(alpha_of(p) / alpha);
    }
    tensors.emplace_back(name + kA, name == kEmbedding ? transposed(p.A) : p.A);
    tensors.emplace_back(name + kB, b);
  }
  const auto text = [](const std::string& value) { return io::GgufValue::text(value); };
  io::write_gguf(path,
                 {{"general.architecture", text(form.architecture)},
                  {"general.type", text("adapter")},
                  {"adapter.type", text("lora")},
                  {"general.name", text("LoRA made with Molt")},
                  {"adapter.lora.alpha", io::GgufValue::f32(alpha)}},
                 tensors);
}

LoraPairs read_gguf_lora(const std::string& path, const models::LoadedModel& base) {
  const models::GgufForm& form = form_of(base);
  const io::GgufFile file(path);
  const std::string type = file.text("general.type");
  if (type != "adapter")
    usage_error(path, ": is a GGUF ", type, ", not an adapter; Molt reads models from Hugging Face's layout");
  if (const std::string kind = file.text("adapter.type"); kind != "lora")
    usage_error(path, ": adapter.type is ", kind, "; Molt reads lora");
  if (const std::string of = file.text("general.architecture"); of != form.architecture)
    usage_error(path, ": is for the architecture ", of, ", the base is ", form.architecture);
  if (file.metadata().count("adapter.alora.invocation_tokens"))
    usage_error(path, ": is an activated LoRA (adapter.alora.invocation_tokens), which Molt has no form for");
  const double alpha = file.number("adapter.lora.alpha");
  LoraPairs pairs;
  std::set<std::string> used;
  for (const std::string& name : file.names()) {
    if (!ends_with(name, kA)) continue;
    const std::string tensor = name.substr(0, name.size() - kA.size()), other = tensor + kB;
    if (!file.has(other)) usage_error(path, ": has ", name, " but no ", other);
    const std::string parameter = form.parameter(tensor), weight = ".weight";
    if (!ends_with(parameter, weight)) usage_error(path, ": ", tensor, " is no tensor of ", form.architecture);
    std::string module = parameter.substr(0, parameter.size() - weight.size());
    Tensor a = file.tensor(name), b = file.tensor(other);
    if (a.rank() != 2 || b.rank() != 2)
      usage_error(path, ": ", tensor, " has lora_a ", shape_str(a.shape()), " and lora_b ", shape_str(b.shape()),
                  "; expected matrices");
    if (tensor == kEmbedding) a = transposed(a);
    const double rank = static_cast<double>(b.cols());
    pairs.push_back(fitting_pair(base, module, a, b, alpha == 0 ? 1 : alpha / rank, path));
    used.insert({name, other});
  }
  for (const std::string& name : file.names()) {
    if (!used.count(name)) usage_error(path, ": tensor ", name, " is no part of a LoRA pair; nothing was converted");
  }
  if (pairs.empty()) usage_error(path, ": holds no LoRA pair");
  refuse_tied(pairs, base, "llama.cpp aborts on such an adapter");
  return pairs;
}

}  // namespace molt::app
