#include "molt/app/merge.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include "molt/app/gguf_model.h"
#include "molt/app/workspace.h"
#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/base/format.h"
#include "molt/base/rng.h"
#include "molt/base/staged_directory.h"
#include "molt/io/safetensors.h"

namespace molt::app {
namespace {

namespace fs = std::filesystem;

void check_dtype(const std::string& dtype) {
  if (!dtype.empty() && dtype != "f32" && dtype != "bf16")
    usage_error("dtype: expected f32 or bf16, found '", dtype, "'");
}

/// The f32 values of a parameter with its site's edits folded in.
Tensor merged_values(const nn::LanguageModel& model, const nn::EditSet& edits, const nn::Parameter& p,
                     const Tensor& source) {
  const Tensor values = source.to(Dtype::kF32).reshape(p.shape);
  nn::merge_edits(edits, model.sites(), p, values);
  return values;
}

bool edited(const nn::LanguageModel& model, const nn::EditSet& edits, const nn::Parameter& p) {
  for (const auto& [id, edit] : edits.all()) {
    const nn::Site& site = model.sites().all()[static_cast<size_t>(id)];
    if (site.parameter == &p || site.bias == &p) return true;
  }
  return false;
}

void copy_tokenizer(const std::string& from, const fs::path& to) {
  if (from.empty()) return;
  const fs::path source = fs::is_directory(from) ? fs::path(from) : fs::path(from).parent_path();
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json",
                           "merges.txt", "generation_config.json", "chat_template.jinja"}) {
    if (fs::exists(source / name)) write_file_atomic((to / name).string(), read_file((source / name).string()));
  }
}

Shape stored_shape(const nn::Parameter& p) {
  // torch keeps a depthwise convolution as (E, 1, K).
  const std::string end = "conv1d.weight";
  const bool conv = p.path.size() > end.size() && p.path.compare(p.path.size() - end.size(), end.size(), end) == 0;
  return conv ? Shape{p.shape[0], 1, p.shape[1]} : p.shape;
}

}  // namespace

void for_each_merged(const models::LoadedModel& loaded, const nn::EditSet& edits, const MergedVisitor& visit) {
  const nn::LanguageModel& model = *loaded.model;
  // Every edit must have a weight to go into.
  for (const auto& [id, edit] : edits.all()) {
    const nn::Site& site = model.sites().all()[static_cast<size_t>(id)];
    if (!site.parameter) {
      edit->merge(site, {});  // says why it cannot
      usage_error(site.path, ": holds no weight that an edit could be folded into");
    }
    if (model.plan().tied_head && site.parameter->lookup && !edit->covers_shared_weight())
      usage_error(site.path, ": its weight is the head's and the embedding's at once; merging would change both");
  }
  for (const nn::Parameter& p : model.parameters()) {
    const bool from_file = loaded.checkpoint && !p.trained;
    const Tensor stored =
        loaded.checkpoint ? loaded.checkpoint->tensor(models::stored_name(loaded, p.path)) : p.var.value();
    const Tensor source = from_file ? stored : p.var.value();
    visit(p, edited(model, edits, p) || p.trained ? merged_values(model, edits, p, source) : source, stored.dtype());
  }
}

void write_merged(const models::LoadedModel& loaded, const nn::EditSet& edits, const std::string& directory,
                  const std::string& dtype, const std::string& tokenizer_from) {
  const nn::LanguageModel& model = *loaded.model;
  std::error_code error;
  if (loaded.checkpoint && fs::equivalent(directory, loaded.checkpoint->directory(), error))
    usage_error(directory, ": is the base model's own directory; choose another");
  check_dtype(dtype);

  std::string word = dtype;
  io::NamedTensors tensors;
  for_each_merged(loaded, edits, [&](const nn::Parameter& p, const Tensor& values, Dtype stored) {
    Dtype target = dtype == "bf16" ? Dtype::kBf16 : dtype == "f32" ? Dtype::kF32 : stored;
    // The reference keeps these in f32 whatever the rest is stored in; their exponentials need the digits.
    if (p.ssm && p.shape.size() <= 2 && !p.product && dtype == "bf16") target = Dtype::kF32;
    tensors.emplace_back(p.path, (values.dtype() != target ? values.to(target) : values).reshape(stored_shape(p)));
    if (word.empty() && p.lookup) word = dtype_name(target);
  });
  // Beside its place first: whatever goes wrong, there is a whole model or none.
  StagedDirectory staged(directory);
  Json config = loaded.family->config(model.plan());
  if (loaded.config.is_object() && loaded.config.contains("model_type")) config = loaded.config;
  config["dtype"] = word == "bf16" ? "bfloat16" : word == "f16" ? "float16" : "float32";
  config.erase("torch_dtype");
  io::write_safetensors(staged.file("model.safetensors"), tensors);
  write_file_atomic(staged.file("config.json"), config.dump(2) + "\n");
  copy_tokenizer(tokenizer_from, staged.path());
  staged.commit();
}

MergeCheck check_merged(const nn::LanguageModel& model, const nn::EditSet& edits, const std::string& directory) {
  models::LoadedModel merged = models::open_model(directory, model.precision());
  models::load_weights(merged);
  constexpr int64_t kRows = 48;
  std::vector<int32_t> ids;
  std::vector<int64_t> rows;
  const Rng rng(7, "merge probe");
  for (int64_t t = 0; t < kRows; ++t) {
    ids.push_back(
        static_cast<int32_t>(rng.below(static_cast<uint64_t>(t), static_cast<uint32_t>(model.plan().vocabulary))));
    rows.push_back(t);
  }
  const Segments segments = Segments({0, kRows / 3, kRows});
  const NoGrad no_grad;
  nn::Context adapted{.segments = &segments, .edits = &edits}, plain{.segments = &segments};
  const auto a = model.logits(adapted, model.hidden(adapted, ids), rows).value().values();
  const auto b = merged.model->logits(plain, merged.model->hidden(plain, ids), rows).value().values();
  MergeCheck check{.rows = kRows};
  const auto width = static_cast<size_t>(model.plan().vocabulary);
  for (size_t i = 0; i < a.size(); ++i) {
    check.largest = std::max(check.largest, std::abs(a[i] - b[i]));
    check.scale = std::max(check.scale, std::abs(a[i]));
    if (!std::isfinite(b[i])) system_error(directory, ": the merged model's logits are not finite");
  }
  for (size_t r = 0; r < static_cast<size_t>(kRows); ++r) {
    const auto best = [&](const std::vector<double>& v) {
      return std::max_element(v.begin() + r * width, v.begin() + (r + 1) * width) - (v.begin() + r * width);
    };
    check.same += best(a) == best(b);
  }
  return check;
}

void require_same_logits(MergeCheck& in_f32, const std::function<MergeCheck()>& in_f64, const std::string& directory) {
  constexpr double kSame = 1e-3;
  if (in_f32.relative() < kSame) return;
  const MergeCheck exact = in_f64();
  if (!(exact.relative() < kSame))
    system_error(directory, ": the merged model's logits differ from the adapted model's by ", exact.largest,
                 " in f64, the largest is ", exact.scale, "; do not use it, and report this");
  in_f32.notes.push_back(
      str("this model magnifies rounding, in f32 any two ways of computing it differ; in f64 the two "
          "differ by ",
          format_significant(exact.relative(), 2), " of the largest logit"));
}

MergeCheck merge_adapter(const MergeOptions& options) {
  const bool gguf = options.format == "gguf";
  if (!gguf && options.format != "safetensors")
    usage_error("--format: expected safetensors or gguf, found '", options.format, "'");
  if (!gguf) check_dtype(options.dtype);
  require_free_place(options.out, !gguf);
  const auto open = [&](const std::string& dtype) {
    return std::make_unique<Workspace>(Workspace::Options{.model = options.model,
                                                          .adapter = options.adapter,
                                                          .base_dtype = dtype,
                                                          .compute = dtype,
                                                          .threads = options.threads});
  };
  auto workspace = open("f32");
  const nn::EditSet& edits = workspace->edits();
  if (gguf) {
    const auto written =
        write_gguf_model(workspace->loaded(), edits, options.out, options.dtype, workspace->options().model);
    return {.notes = written.notes};
  }
  write_merged(workspace->loaded(), edits, options.out, options.dtype, workspace->options().model);
  MergeCheck check = check_merged(workspace->model(), edits, options.out);
  workspace.reset();
  const io::Checkpoint written(options.out);
  for (const std::string& name : written.names())
    if (written.tensor(name).dtype() != Dtype::kF32)
      return check;  // how much rounding matters is for the user to judge
  const auto in_f64 = [&] {
    const auto exact = open("f64");
    return check_merged(exact->model(), exact->edits(), options.out);
  };
  require_same_logits(check, in_f64, options.out);
  return check;
}

}  // namespace molt::app
