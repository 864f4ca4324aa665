// LoRA as a value: one pair per module of the base, whatever form it came in and whatever form it goes to. PEFT, mlx-lm
// and GGUF say the same thing in different words: W x + scale · B A x.
#pragma once

#include <string>
#include <vector>

#include "molt/app/adapter.h"
#include "molt/models/load.h"

namespace molt::app {

/// The pair of one whole module. Of an embedding: the look-up only, row id + scale · B A[:, id].
struct LoraPair {
  const nn::Site* site = nullptr;  ///< a linear or an embedding of the base
  Tensor A, B;                     ///< f32: (R, in), (out, R); of an embedding (R, V), (D, R)
  double scale = 1;
  Tensor magnitude = {};  ///< DoRA's, (out); undefined without

  int64_t rank() const { return A.rows(); }
};

using LoraPairs = std::vector<LoraPair>;

/// The pairs of an adapter that was opened and finished: of LoRA, and of methods whose edits are peft::Foldable. Slices
/// become rows of a whole B that are zero elsewhere, several pairs on one module one pair of their ranks' sum. Throws
/// UsageError, naming what it is and what to do, for anything that is no LoRA of a linear or an embedding. `form`:
/// "PEFT", …, for the message.
LoraPairs pairs_of(const LoadedAdapter& adapter, const models::LoadedModel& base, const std::string& form);

/// A pair read from a file, once it is known to fit. Throws UsageError, beginning with `where`, for a module that the
/// base lacks and for shapes that do not fit it.
LoraPair fitting_pair(const models::LoadedModel& base, const std::string& module, Tensor A, Tensor B, double scale,
                      const std::string& where);

/// Throws UsageError for a pair on a table that is the head too: PEFT and Molt change the look-up only, other programs
/// not. `what_happens` there: "mlx-lm the head as well".
void refuse_tied(const LoraPairs& pairs, const models::LoadedModel& base, const std::string& what_happens);

/// The largest difference between what two sets of pairs do to one random input per module, relative to the largest
/// value. Infinite where they are not on the same modules.
double difference(const LoraPairs& a, const LoraPairs& b);

/// Transposed copy of a matrix.
Tensor transposed(const Tensor& matrix);

// The forms. Readers take the base to check against; writers make a new directory or file as a whole. All throw
// UsageError for what the form cannot say.

/// PEFT's directory; one alpha per module where ranks or scales differ. Also what Molt opens.
void write_peft_lora(const std::string& directory, const LoraPairs& pairs, const std::string& base_path);

/// mlx-lm's directory: adapters.safetensors, adapter_config.json. One rank and scale for all: smaller ranks are filled
/// up with zeros, different scales folded into B.
void write_mlx_lora(const std::string& directory, const LoraPairs& pairs, const models::LoadedModel& base,
                    const std::string& base_path);
LoraPairs read_mlx_lora(const std::string& directory, const models::LoadedModel& base);

/// llama.cpp's adapter file. One alpha for all: other scales are folded into B.
void write_gguf_lora(const std::string& path, const LoraPairs& pairs, const models::LoadedModel& base);
LoraPairs read_gguf_lora(const std::string& path, const models::LoadedModel& base);

}  // namespace molt::app
