#include "molt/app/gguf_model.h"

#include <filesystem>

#include "molt/app/merge.h"
#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/io/finite.h"
#include "molt/io/gguf.h"
#include "molt/models/gguf_form.h"
#include "molt/text/chat_template.h"
#include "molt/text/token_table.h"

namespace molt::app {
namespace {

namespace fs = std::filesystem;
using io::GgufValue;

// llama.h: enum llama_token_type, and the file types of llama_ftype.
constexpr int64_t kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5;
constexpr int64_t kAllF32 = 0, kMostlyF16 = 1, kMostlyBf16 = 32;

/// llama.cpp's name for how a tokenizer cuts text into words. Names stand for patterns built into it, so a tokenizer
/// with another pattern cannot be said.
std::string pre_tokenizer_name(const text::TokenTable& table, const std::string& where) {
  if (!table.gpt2_words)
    usage_error(where,
                ": cuts text otherwise than GPT-2's pattern does, and Molt knows no name that llama.cpp has for "
                "it; its own converter may");
  return table.nfc ? "olmo" : "gpt-2";  // GPT-NeoX's and its kin, by llama.cpp's own test; both mean GPT-2's pattern
}

void add_tokenizer(io::GgufMetadata& metadata, const std::string& from, int64_t rows, std::vector<std::string>& notes) {
  const text::TokenTable table = text::read_token_table(from);
  if (static_cast<int64_t>(table.tokens.size()) > rows)
    usage_error(from, ": has ", table.tokens.size(), " tokens, the model ", rows, " rows; it belongs to another model");
  std::vector<std::string> tokens;
  std::vector<int64_t> types;
  using Kind = text::TokenTable::Kind;
  for (int64_t id = 0; id < rows; ++id) {
    const bool there = static_cast<size_t>(id) < table.tokens.size();
    const Kind kind = there ? table.tokens[static_cast<size_t>(id)].kind : Kind::kUnused;
    tokens.push_back(kind == Kind::kUnused ? str("[PAD", id, "]") : table.tokens[static_cast<size_t>(id)].spelling);
    types.push_back(kind == Kind::kUnused    ? kUnused
                    : kind == Kind::kSpecial ? kControl
                    : kind == Kind::kAdded   ? kUserDefined
                                             : kNormal);
  }
  metadata.emplace_back("tokenizer.ggml.model", GgufValue::text("gpt2"));
  metadata.emplace_back("tokenizer.ggml.pre", GgufValue::text(pre_tokenizer_name(table, from)));
  metadata.emplace_back("tokenizer.ggml.tokens", GgufValue::list_of(std::move(tokens)));
  metadata.emplace_back("tokenizer.ggml.token_type", GgufValue::list_of_i32(std::move(types)));
  metadata.emplace_back("tokenizer.ggml.merges", GgufValue::list_of(table.merges));
  const auto add_id = [&](const char* key, const std::optional<int32_t>& id) {
    if (id) metadata.emplace_back(key, GgufValue::u32(*id));
  };
  add_id("tokenizer.ggml.bos_token_id", table.bos);
  add_id("tokenizer.ggml.eos_token_id", table.eos);
  add_id("tokenizer.ggml.unknown_token_id", table.unknown);
  add_id("tokenizer.ggml.padding_token_id", table.pad);
  const bool begins = table.bos && table.prefix == std::vector<int32_t>{*table.bos};
  const bool ends = table.eos && table.suffix == std::vector<int32_t>{*table.eos};
  metadata.emplace_back("tokenizer.ggml.add_bos_token", GgufValue::flag(begins));
  metadata.emplace_back("tokenizer.ggml.add_eos_token", GgufValue::flag(ends));
  if (table.nfc)
    notes.push_back("this tokenizer normalises text to NFC, llama.cpp does not: hand it text that is NFC already");
}

void add_chat_template(io::GgufMetadata& metadata, const std::string& tokenizer_from) {
  const fs::path from(tokenizer_from);
  const fs::path directory = fs::is_directory(from) ? from : from.parent_path();
  const auto found = text::ChatTemplate::of_checkpoint(directory.empty() ? "." : directory.string());
  if (found) metadata.emplace_back("tokenizer.chat_template", GgufValue::text(found->jinja()));
}

}  // namespace

GgufWritten write_gguf_model(const models::LoadedModel& loaded, const nn::EditSet& edits, const std::string& path,
                             const std::string& dtype, const std::string& tokenizer_from) {
  if (!dtype.empty() && dtype != "f32" && dtype != "f16" && dtype != "bf16")
    usage_error("dtype: expected f32, f16 or bf16, found '", dtype, "'");
  const nn::LanguageModelPlan& plan = loaded.model->plan();
  const models::GgufForm* const form = loaded.family->gguf;
  if (!form) usage_error("llama.cpp has no architecture for ", loaded.family->name, " models");
  const std::string directory = loaded.checkpoint ? loaded.checkpoint->directory() : "the model";
  const io::GgufMetadata sizes = form->metadata(plan, directory);

  GgufWritten written;
  io::NamedTensors tensors;
  Dtype matrices = Dtype::kF32;
  for_each_merged(loaded, edits, [&](const nn::Parameter& p, const Tensor& values, Dtype stored) {
    const std::string name = form->tensor(p.path);
    if (name.empty()) usage_error(p.path, ": llama.cpp's ", form->architecture, " has no tensor for it");
    Dtype target = Dtype::kF32;  // what is no matrix of a product stays f32: llama.cpp computes with it as it is
    if (p.product || p.lookup)
      target = dtype == "f32" ? Dtype::kF32 : dtype == "f16" ? Dtype::kF16 : dtype == "bf16" ? Dtype::kBf16 : stored;
    if (target == Dtype::kF64) target = Dtype::kF32;
    if (p.lookup) matrices = target;
    Tensor as_there = values;
    if (target != stored || values.dtype() != target || target == Dtype::kF32)
      as_there = form->values(p.path, values.to(Dtype::kF32).reshape(p.shape)).to(target);
    if (!io::all_finite(as_there))
      usage_error(p.path, ": holds values that are not finite",
                  target == Dtype::kF16 ? " in f16; choose bf16 or f32" : "");
    tensors.emplace_back(name, as_there.reshape(p.shape));
  });
  for (const auto& tensor : form->missing(plan)) tensors.push_back(tensor);

  const std::string name = fs::path(directory).filename().string();
  io::GgufMetadata metadata = {
      {"general.architecture", GgufValue::text(form->architecture)},
      {"general.type", GgufValue::text("model")},
      {"general.name", GgufValue::text(name.empty() ? "model" : name)},
      {"general.file_type", GgufValue::u32(matrices == Dtype::kBf16  ? kMostlyBf16
                                           : matrices == Dtype::kF16 ? kMostlyF16
                                                                     : kAllF32)},
  };
  metadata.insert(metadata.end(), sizes.begin(), sizes.end());
  add_tokenizer(metadata, tokenizer_from, plan.vocabulary, written.notes);
  add_chat_template(metadata, tokenizer_from);
  io::write_gguf(path, metadata, tensors);
  written.tensors = static_cast<int64_t>(io::GgufFile(path).names().size());
  return written;
}

}  // namespace molt::app
