#include "molt/app/convert.h"

#include <cstring>
#include <filesystem>
#include <memory>

#include "molt/app/gguf_model.h"
#include "molt/app/lora_pairs.h"
#include "molt/app/recipe.h"
#include "molt/base/error.h"
#include "molt/base/staged_directory.h"
#include "molt/io/adapter.h"

namespace molt::app {
namespace {

namespace fs = std::filesystem;

enum class Form { kPeft, kMlx, kGguf, kCheckpoint };

const char* form_name(Form form) {
  static constexpr const char* kNames[] = {"a PEFT adapter", "an mlx-lm adapter", "a GGUF adapter", "a checkpoint"};
  return kNames[static_cast<int>(form)];
}

Form form_of_input(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error)) usage_error(path, ": there is no such file or directory");
  const auto holds = [&](const char* name) { return fs::exists(fs::path(path) / name, error); };
  if (!fs::is_directory(path, error)) return Form::kGguf;  // its reader says what else it is
  if (holds("adapters.safetensors")) return Form::kMlx;
  if (holds("adapter_config.json")) return Form::kPeft;
  if (holds("config.json")) return Form::kCheckpoint;
  if (holds("run.json") && fs::is_directory(fs::path(path) / "adapter", error))
    usage_error(path, ": is a run; its adapter is ", (fs::path(path) / "adapter").string());
  usage_error(path,
              ": expected an adapter (adapter_config.json, adapters.safetensors or a .gguf file) or a checkpoint "
              "(config.json)");
}

/// The base's directory, as given or as the adapter names it.
std::string base_of(const ConvertOptions& o, Form form) {
  if (!o.model.empty()) return o.model;
  std::string named;
  if (form == Form::kPeft) named = inspect_adapter(o.input).base;
  if (form == Form::kMlx) {
    const Json config = io::read_python_json((fs::path(o.input) / "adapter_config.json").string());
    if (config.is_object() && config.value("model", Json()).is_string()) named = config["model"].get<std::string>();
  }
  std::error_code error;
  if (named.empty()) usage_error(o.input, ": does not name its base; give the base's directory with --model");
  if (!fs::is_directory(named, error))
    usage_error(o.input, ": names '", named, "' as its base, which is no directory here; give it with --model");
  return named;
}

/// Whether a method's values can be had only with the base's weights at hand.
bool needs_weights(const LoadedAdapter& adapter) {
  for (const nn::Method* method : adapter.methods()) {
    if (!method->base_trainables().empty()) return true;
    const Json config = method->config_json();
    const std::string init = config.value("init_lora_weights", std::string());
    if (config.value("use_dora", false) || init.rfind("pissa", 0) == 0 || init == "olora") return true;
  }
  return false;
}

LoraPairs read_pairs(const std::string& input, Form form, models::LoadedModel& base, const std::string& to) {
  if (form == Form::kMlx) return read_mlx_lora(input, base);
  if (form == Form::kGguf) return read_gguf_lora(input, base);
  LoadedAdapter adapter(input, base, Dtype::kF32);
  if (needs_weights(adapter)) models::load_weights(base);
  adapter.finish();
  return pairs_of(adapter, base, to);
}

models::LoadedModel open_base(const std::string& directory) {
  return models::open_model(directory, precision_from("f32", "f32"));
}

}  // namespace

Converted convert(const ConvertOptions& o) {
  if (o.to != "peft" && o.to != "mlx" && o.to != "gguf")
    usage_error("--to: expected peft, mlx or gguf, found '", o.to, "'");
  const Form form = form_of_input(o.input);
  require_free_place(o.out, o.to != "gguf");
  Converted done{.from = form_name(form)};
  if (form == Form::kCheckpoint) {
    if (o.to != "gguf")
      usage_error(o.input, ": is a checkpoint, which PEFT and mlx-lm read as it is; only --to gguf converts one");
    if (!o.model.empty()) usage_error("--model: is for adapters; ", o.input, " is a checkpoint");
    models::LoadedModel loaded = open_base(o.input);
    models::check_weights(loaded);
    const GgufWritten written = write_gguf_model(loaded, {}, o.out, o.dtype, o.input);
    done.modules = written.tensors;
    done.notes = written.notes;
    return done;
  }
  if (!o.dtype.empty()) usage_error("--dtype: is for checkpoints; adapters keep f32");
  const std::string base_path = base_of(o, form);
  models::LoadedModel base = open_base(base_path);
  const std::string words = o.to == "peft" ? "PEFT's LoRA" : o.to == "mlx" ? "mlx-lm's adapter form" : "a GGUF adapter";
  const LoraPairs pairs = read_pairs(o.input, form, base, words);
  done.modules = static_cast<int64_t>(pairs.size());
  Form written = Form::kGguf;
  if (o.to == "peft") {
    write_peft_lora(o.out, pairs, base_path);
    done.notes = peer_notes(io::read_adapter(o.out));
    written = Form::kPeft;
  } else if (o.to == "mlx") {
    write_mlx_lora(o.out, pairs, base, base_path);
    written = Form::kMlx;
  } else {
    write_gguf_lora(o.out, pairs, base);
  }
  done.difference = difference(pairs, read_pairs(o.out, written, base, words));
  // f32 has 24 bits; folding a scale and summing a rank's products loses a few of them.
  if (!(done.difference < 1e-5))
    system_error(o.out, ": read back, it changes the base otherwise than ", o.input, " does (", done.difference,
                 " relative); do not use it, and report this");
  return done;
}

}  // namespace molt::app
