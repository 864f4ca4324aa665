// A plain checkpoint in transformers' layout from a base and what was trained on it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "molt/models/load.h"
#include "molt/nn/edit.h"

namespace molt::app {

/// Called with a parameter, its values (f32 where something was folded in, else as they are stored), and the dtype the
/// base stores it in.
using MergedVisitor = std::function<void(const nn::Parameter&, const Tensor& values, Dtype stored)>;

/// Every parameter of the base (or, if trained whole, the trained one) with its edits folded in, one at a time, in
/// checkpoint order. Throws UsageError where an edit cannot be folded in.
void for_each_merged(const models::LoadedModel& loaded, const nn::EditSet& edits, const MergedVisitor& visit);

/// Writes config.json, model.safetensors and the base's tokenizer files to `directory`. Every tensor is the base's
/// (or, if trained whole, the trained one) with its edits folded in, computed in f32. `dtype`: "" keeps each tensor's
/// own, else f32 or bf16. Throws UsageError where an edit cannot be folded in, or `directory` is the base's.
void write_merged(const models::LoadedModel& loaded, const nn::EditSet& edits, const std::string& directory,
                  const std::string& dtype, const std::string& tokenizer_from);

struct MergeCheck {
  double largest = 0;  ///< largest absolute difference between a merged and an adapted logit
  double scale = 0;    ///< largest absolute adapted logit
  int64_t rows = 0;    ///< probe tokens compared
  int64_t same = 0;    ///< of which so many have the same most likely next token
  std::vector<std::string> notes = {};

  double relative() const { return scale > 0 ? largest / scale : largest; }
};

/// Loads `directory` and compares its logits with the adapted model's on a fixed stream of tokens.
MergeCheck check_merged(const nn::LanguageModel& model, const nn::EditSet& edits, const std::string& directory);

/// What a checkpoint in f32 must show. Where the logits differ in f32 they are compared in f64 as well, since a deep
/// model may magnify rounding a hundred thousand times: if they agree there, a note says so; else throws SystemError.
void require_same_logits(MergeCheck& in_f32, const std::function<MergeCheck()>& in_f64, const std::string& directory);

struct MergeOptions {
  std::string model;  ///< or empty: the base that the adapter names
  std::string adapter, out;
  std::string dtype;                   ///< as write_merged()'s; f16 too in GGUF
  std::string format = "safetensors";  ///< a directory in Hugging Face's layout; "gguf": a file for llama.cpp
  int64_t threads = 0;
};

/// `molt merge`: both of the above, in f32; in GGUF nothing is compared (rows is 0), `notes` says what there is to
/// know. Throws UsageError where `out` holds something, and SystemError as require_same_logits() does.
MergeCheck merge_adapter(const MergeOptions& options);

}  // namespace molt::app
