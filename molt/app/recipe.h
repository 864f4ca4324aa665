// A recipe: everything a run is, read from YAML with overrides, and written back as resolved.
#pragma once

#include <string>
#include <vector>

#include "molt/app/yaml_reader.h"
#include "molt/data/config.h"
#include "molt/eval/generate_config.h"
#include "molt/nn/parameter.h"
#include "molt/train/config.h"

namespace molt::app {

/// A model to be made rather than loaded.
struct ScratchConfig {
  std::string family = "mamba";
  int64_t d_model = 0;
  int64_t layers = 0;
  int64_t d_state = 16;
  int64_t expand = 2;
  int64_t d_conv = 4;

  template <class V>
  void visit(V& v) {
    v.field("family", family, "model family");
    v.field("d_model", d_model, "model width D");
    v.field("layers", layers, "number of layers");
    v.field("d_state", d_state, "states per channel N");
    v.field("expand", expand, "inner width over model width");
    v.field("d_conv", d_conv, "convolution width K");
  }
};

/// How the result is judged.
struct EvaluationConfig {
  std::string metric = "loss";
  std::optional<int64_t> limit;
  bool one_line = false;
  int64_t samples = 20;
  eval::GenerateConfig generate;

  template <class V>
  void visit(V& v) {
    v.field("metric", metric, "loss | exact_match | accuracy (classes by their label tokens)");
    v.field("limit", limit, "judge this many examples of the test (or validation) data");
    v.field("one_line", one_line, "exact_match: an answer ends at its first line break");
    v.field("samples", samples, "examples shown in the report");
    v.group("generate", generate, "exact_match: how answers are decoded");
  }
};

/// One entry of `method:`; its options stay YAML until the method reads them.
struct MethodEntry {
  std::string name;
  YamlNode options;
};

struct Recipe {
  std::string model;
  std::string tokenizer;
  std::string output_dir;
  int64_t seed = 42;
  std::string base_dtype = "auto";
  std::string compute = "auto";
  std::string save_dtype = "auto";
  int64_t threads = 0;
  std::string max_memory;
  bool scratch_given = false;
  ScratchConfig from_scratch;
  data::DataConfig data;
  train::TrainConfig training;
  EvaluationConfig evaluation;
  std::vector<MethodEntry> methods;

  /// Everything but the methods, in the order a reader wants it. Training options stand at the top level.
  template <class V>
  void visit(V& v) {
    v.field("model", model, "directory of the base checkpoint");
    v.field("tokenizer", tokenizer, "directory or file of a tokenizer.json (default: the model's directory)");
    v.field("output_dir", output_dir, "run directory (default: runs/NAME-OF-RECIPE)");
    v.field("seed", seed, "same seed, same bits");
    v.field("base_dtype", base_dtype,
            "frozen weights: auto | f32 | bf16 | int8 (matrices in 8 bits, a factor per row)");
    v.field("compute", compute,
            "operands of products: auto (bf16 where the processor has it) | f32 | bf16 | int8 (beside an int8 base)");
    v.field("save_dtype", save_dtype, "a model that trained whole is written as: auto (the base's) | f32 | bf16");
    v.field("threads", threads, "0: every core this process may use");
    v.field("max_memory", max_memory,
            "most memory the run may take, such as 2GiB; recompute is switched on where it needs that (default: any)");
    v.group("from_scratch", from_scratch, "make a new model instead of loading one");
    v.group("data", data, "what to train and judge on");
    v.skip("method");
    v.skip("compare");
    v.group("evaluation", evaluation, "how the result is judged");
    training.visit(v);
  }

  /// Reads a recipe and applies overrides ("data.limit=100"). Throws UsageError.
  static Recipe read(const std::string& path, const std::vector<std::string>& overrides);
  static Recipe from(YamlNode root, const std::string& name);

  nn::Precision precision() const;
  /// max_memory in bytes; 0: no limit.
  int64_t most_memory() const;
  /// As resolved: every key with its value.
  OrderedJson resolved() const;
};

/// Throws UsageError where a recipe is one of several runs (compare, search) and says which verb it is for.
void refuse_several_runs(const YamlNode& root);

/// Keys that change the time and the memory that a run takes, and no bit of its result.
inline constexpr const char* kMemoryKeys[] = {"max_memory", "span_memory", "recompute"};

/// Whether two resolved recipes, as JSON, differ in those alone.
bool same_result(const std::string& one, const std::string& other);

/// The methods of a `method:` node: a name, a map from name to options, or a list of either.
std::vector<MethodEntry> read_methods(const YamlNode& node);

/// Throws UsageError for a number of threads that cannot be meant.
void check_threads(int64_t threads);

/// Lets work be split over so many threads; 0: over every core this process may use. Throws UsageError.
void use_threads(int64_t threads);

/// The word of a recipe ("auto", "f32", "bf16") as dtypes. Throws UsageError.
nn::Precision precision_from(const std::string& base, const std::string& compute);

/// The word of a recipe for a type of weights or operands: f32, bf16, int8, f64.
const char* dtype_word(Dtype dtype);

}  // namespace molt::app
