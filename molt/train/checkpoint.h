// Checkpoints: all that a run needs to go on bit for bit. Where they lie, and that they are whole or absent, is
// run_directory.h's business.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "molt/base/json.h"
#include "molt/io/safetensors.h"
#include "molt/train/run_directory.h"

namespace molt::train {

struct Checkpoint {
  int64_t step = 0;
  Json state;                ///< small things: phase, position in the data, best step
  io::NamedTensors tensors;  ///< methods' and optimizer's, by name
};

/// Commits a checkpoint to a run, then removes all but the newest `keep`. Throws SystemError.
void write_checkpoint(const RunDirectory& run, const Checkpoint& checkpoint, int64_t keep);

/// The newest checkpoint, if there is one. Throws UsageError where its files are damaged.
std::optional<Checkpoint> read_last_checkpoint(const RunDirectory& run);

/// The tensors whose names start with `prefix`, the prefix taken off.
io::NamedTensors with_prefix(const io::NamedTensors& tensors, const std::string& prefix);

}  // namespace molt::train
