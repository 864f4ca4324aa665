#include "molt/train/checkpoint.h"

#include "molt/base/error.h"
#include "molt/base/file.h"

namespace molt::train {
namespace {

constexpr int kFormat = 1;

}  // namespace

void write_checkpoint(const RunDirectory& run, const Checkpoint& checkpoint, int64_t keep) {
  const std::string directory = run.begin_checkpoint(checkpoint.step);
  io::write_safetensors(directory + "/tensors.safetensors", checkpoint.tensors);
  Json state = checkpoint.state;
  state["format"] = kFormat;
  state["step"] = checkpoint.step;
  write_file_atomic(directory + "/state.json", state.dump(1) + "\n");
  run.commit_checkpoint(checkpoint.step);
  run.keep_checkpoints(static_cast<int>(keep));
}

std::optional<Checkpoint> read_last_checkpoint(const RunDirectory& run) {
  const std::vector<int64_t> steps = run.checkpoint_steps();
  if (steps.empty()) return std::nullopt;
  const std::string directory = run.checkpoint(steps.back());
  Checkpoint checkpoint;
  checkpoint.state = read_json_file(directory + "/state.json");
  const Json format = checkpoint.state.is_object() ? checkpoint.state.value("format", Json()) : checkpoint.state;
  if (format != kFormat)
    usage_error(directory, "/state.json: expected checkpoint format ", kFormat, ", found ", format.dump());
  checkpoint.step = steps.back();
  const io::SafetensorsFile file(directory + "/tensors.safetensors");
  for (const std::string& name : file.names()) checkpoint.tensors.emplace_back(name, file.tensor(name));
  return checkpoint;
}

io::NamedTensors with_prefix(const io::NamedTensors& tensors, const std::string& prefix) {
  io::NamedTensors out;
  for (const auto& [name, tensor] : tensors) {
    if (name.compare(0, prefix.size(), prefix) == 0) out.emplace_back(name.substr(prefix.size()), tensor);
  }
  return out;
}

}  // namespace molt::train
