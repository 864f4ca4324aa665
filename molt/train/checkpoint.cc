#include "molt/train/checkpoint.h"

#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/io/mapped_file.h"

namespace molt::train {
namespace {

constexpr int kFormat = 1;

Checkpoint read_checkpoint(const std::string& directory, int64_t step) {
  Checkpoint checkpoint;
  checkpoint.state = read_json_file(directory + "/state.json");
  const Json format = checkpoint.state.is_object() ? checkpoint.state.value("format", Json()) : checkpoint.state;
  if (format != kFormat)
    usage_error(directory, "/state.json: expected checkpoint format ", kFormat, ", found ", format.dump());
  checkpoint.step = step;
  const io::SafetensorsFile file(directory + "/tensors.safetensors");
  for (const std::string& name : file.names()) checkpoint.tensors.emplace_back(name, file.tensor(name));
  return checkpoint;
}

}  // namespace

void write_checkpoint(const RunDirectory& run, const Checkpoint& checkpoint, int64_t keep) {
  Json state = checkpoint.state;
  state["format"] = kFormat;
  state["step"] = checkpoint.step;
  const std::string text = state.dump(1) + "\n";
  constexpr uint64_t kSlack = 64 << 10;  // names, blocks that are not full
  uint64_t bytes = kSlack + text.size();
  for (const auto& [name, tensor] : checkpoint.tensors) bytes += tensor.bytes() + name.size() + 100;
  try {
    io::require_disk_room(run.path() + "/checkpoints", bytes);
    const std::string directory = run.begin_checkpoint(checkpoint.step);
    io::write_safetensors(directory + "/tensors.safetensors", checkpoint.tensors);
    write_file_atomic(directory + "/state.json", text);
    run.commit_checkpoint(checkpoint.step);
  } catch (const SystemError& error) {
    run.discard_checkpoint(checkpoint.step);
    const std::vector<int64_t> kept = run.checkpoint_steps();
    system_error(error.what(),
                 kept.empty() ? std::string("; there is no checkpoint yet")
                              : str("; the checkpoint of step ", kept.back(), " is kept, --resume goes on from it"));
  }
  run.keep_checkpoints(static_cast<int>(keep));
}

std::optional<Checkpoint> read_last_checkpoint(const RunDirectory& run) {
  const std::vector<int64_t> steps = run.checkpoint_steps();
  if (steps.empty()) return std::nullopt;
  const std::string directory = run.checkpoint(steps.back());
  try {
    return read_checkpoint(directory, steps.back());
  } catch (const UsageError& error) {
    const std::string what = error.what();
    usage_error(what.substr(0, what.rfind("; download it again")), "; remove ", directory,
                " to go on from the checkpoint before it");
  }
}

io::NamedTensors with_prefix(const io::NamedTensors& tensors, const std::string& prefix) {
  io::NamedTensors out;
  for (const auto& [name, tensor] : tensors) {
    if (name.compare(0, prefix.size(), prefix) == 0) out.emplace_back(name.substr(prefix.size()), tensor);
  }
  return out;
}

}  // namespace molt::train
