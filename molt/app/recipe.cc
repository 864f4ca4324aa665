#include "molt/app/recipe.h"

#include <filesystem>

#include "molt/app/methods.h"
#include "molt/base/error.h"
#include "molt/base/format.h"
#include "molt/base/system.h"
#include "molt/device/cpu_info.h"

namespace molt::app {
namespace {

Dtype dtype_from(const std::string& option, const std::string& word) {
  if (word == "f32") return Dtype::kF32;
  if (word == "bf16") return Dtype::kBf16;
  if (word == "int8") return Dtype::kI8;
  if (word == "f64") return Dtype::kF64;
  usage_error(option, ": expected auto, f32, bf16 or int8, found '", word, "'");
}

}  // namespace

const char* dtype_word(Dtype dtype) { return dtype == Dtype::kI8 ? "int8" : dtype_name(dtype); }

void check_threads(int64_t threads) {
  if (threads < 0) usage_error("threads: must not be negative, is ", threads);
  // OpenMP ends the program where the system refuses it a thread.
  constexpr int64_t kMost = 1024;
  if (threads > kMost) usage_error("threads: must be at most ", kMost, ", is ", threads);
}

void use_threads(int64_t threads) {
  check_threads(threads);
  set_compute_threads(threads > 0 ? static_cast<int>(threads) : usable_cores());
}

nn::Precision precision_from(const std::string& base, const std::string& compute) {
  const Dtype best = bf16_supported() ? Dtype::kBf16 : Dtype::kF32;
  nn::Precision precision;
  precision.compute = compute == "auto" ? best : dtype_from("compute", compute);
  precision.base = base == "auto" ? precision.compute : dtype_from("base_dtype", base);
  if (precision.compute == Dtype::kI8 && precision.base != Dtype::kI8)
    usage_error("compute: int8 multiplies a base that is kept in 8 bits; set base_dtype to int8 too");
  return precision;
}

std::vector<MethodEntry> read_methods(const YamlNode& node) {
  std::vector<MethodEntry> methods;
  if (node.is_scalar()) {
    methods.push_back({node.scalar(), node.empty_map()});
  } else if (node.is_list()) {
    for (const YamlNode& item : node.items()) {
      for (MethodEntry& entry : read_methods(item)) methods.push_back(std::move(entry));
    }
  } else if (node.is_map()) {
    for (const std::string& name : node.keys()) {
      const YamlNode options = node.child(name);
      if (options.is_scalar() || options.is_list())
        usage_error(options.where(), ": expected the options of ", name, " as a map, such as {KEY: VALUE}");
      methods.push_back({name, options.is_map() ? options : options.empty_map()});
    }
  } else {
    usage_error(node.where(), ": expected a method such as lora, or a map such as {lora: {r: 8}}");
  }
  return methods;
}

void refuse_several_runs(const YamlNode& root) {
  for (const char* verb : {"compare", "search"}) {
    if (root.is_map() && root.has(verb))
      usage_error(root.child(verb).where(), ": makes this a recipe for 'molt ", verb,
                  "'; one of a single run is expected");
  }
}

bool same_result(const std::string& one, const std::string& other) {
  Json a = parse_json(one, "recipe"), b = parse_json(other, "recipe");
  for (Json* recipe : {&a, &b})
    for (const char* key : kMemoryKeys)
      if (recipe->is_object()) recipe->erase(key);
  return a == b;
}

Recipe Recipe::read(const std::string& path, const std::vector<std::string>& overrides) {
  YamlNode root = YamlNode::read_file(path);
  if (!root.is_map()) usage_error(root.where(), ": expected keys and values");
  refuse_several_runs(root);
  for (const std::string& assignment : overrides) root.apply(assignment);
  return from(root, std::filesystem::path(path).stem().string());
}

Recipe Recipe::from(YamlNode root, const std::string& name) {
  if (root.has("methods")) {
    if (root.has("method"))
      usage_error(root.where(), ": method and methods are both given; they mean the same, keep one");
    root.set("method", root.child("methods"));
    root.erase("methods");
  }
  Recipe recipe;
  YamlReader reader(root);
  recipe.visit(reader);
  reader.finish();
  recipe.scratch_given = root.has("from_scratch");
  if (root.has("method")) recipe.methods = read_methods(root.child("method"));
  if (recipe.output_dir.empty()) recipe.output_dir = "runs/" + name;
  if (recipe.model.empty() == !recipe.scratch_given)
    usage_error(root.where(), recipe.scratch_given ? ": model and from_scratch are both given; keep one"
                                                   : ": model is missing: the directory of a checkpoint");
  if (recipe.scratch_given &&
      (recipe.from_scratch.d_model < 1 || recipe.from_scratch.layers < 1 || recipe.tokenizer.empty()))
    usage_error(root.where(), ": from_scratch needs d_model and layers, and tokenizer beside it");
  const ScratchConfig& s = recipe.from_scratch;
  const auto within = [](const char* key, int64_t value, int64_t least, int64_t most) {
    if (value < least || value > most)
      usage_error("from_scratch.", key, ": must be from ", least, " to ", most, ", is ", value);
  };
  if (recipe.scratch_given) {
    within("d_model", s.d_model, 1, 1 << 16);
    within("layers", s.layers, 1, 4096);
    within("d_state", s.d_state, 1, 4096);
    within("expand", s.expand, 1, 64);
    within("d_conv", s.d_conv, 1, 64);
  }
  check_threads(recipe.threads);
  const std::string& metric = recipe.evaluation.metric;
  if (metric != "loss" && metric != "exact_match" && metric != "accuracy")
    usage_error("evaluation.metric: expected loss, exact_match or accuracy, found '", metric, "'");
  if (recipe.evaluation.limit && *recipe.evaluation.limit < 1)
    usage_error("evaluation.limit: must be at least 1, is ", *recipe.evaluation.limit);
  if (recipe.evaluation.samples < 0)
    usage_error("evaluation.samples: must not be negative, is ", recipe.evaluation.samples);
  recipe.evaluation.generate.validate();
  recipe.precision();
  recipe.most_memory();
  const std::string& saved = recipe.save_dtype;
  if (saved != "auto" && saved != "f32" && saved != "bf16")
    usage_error("save_dtype: expected auto, f32 or bf16, found '", saved, "'");
  recipe.training.validate();
  recipe.data.validate();
  return recipe;
}

nn::Precision Recipe::precision() const { return precision_from(base_dtype, compute); }

int64_t Recipe::most_memory() const {
  if (max_memory.empty()) return 0;
  const std::optional<int64_t> bytes = parse_bytes(max_memory);
  if (!bytes || *bytes < 1)
    usage_error("max_memory: expected bytes, such as 2GiB, 1500MB or 2000000000, found '", max_memory, "'");
  return *bytes;
}

OrderedJson Recipe::resolved() const {
  JsonWriter writer;
  const_cast<Recipe*>(this)->visit(writer);
  OrderedJson json = writer.json();
  if (!scratch_given) json.erase("from_scratch");
  OrderedJson entries = OrderedJson::array();
  for (const MethodEntry& entry : methods) entries.push_back({{entry.name, resolved_options(entry)}});
  json["method"] = entries;
  return json;
}

}  // namespace molt::app
