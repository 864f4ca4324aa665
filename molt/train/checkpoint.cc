#include "molt/train/checkpoint.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "molt/base/error.h"
#include "molt/base/file.h"

namespace molt::train {
namespace {

namespace fs = std::filesystem;
constexpr int kFormat = 1;

fs::path checkpoints_of(const std::string& run_dir) { return fs::path(run_dir) / "checkpoints"; }

/// Complete checkpoints, oldest first.
std::vector<fs::path> list(const std::string& run_dir) {
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(checkpoints_of(run_dir), error)) {
    const std::string name = entry.path().filename().string();
    if (name.size() == 13 && name.compare(0, 5, "step-") == 0) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

void write_checkpoint(const std::string& run_dir, const Checkpoint& checkpoint, int64_t keep) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(checkpoint.step));
  const fs::path target = checkpoints_of(run_dir) / name,
                 temporary = checkpoints_of(run_dir) / (std::string(name) + ".tmp");
  std::error_code error;
  fs::remove_all(temporary, error);
  make_directories(temporary.string());
  io::write_safetensors((temporary / "tensors.safetensors").string(), checkpoint.tensors);
  Json state = checkpoint.state;
  state["format"] = kFormat;
  state["step"] = checkpoint.step;
  write_file_atomic((temporary / "state.json").string(), state.dump(1) + "\n");
  fs::remove_all(target, error);
  fs::rename(temporary, target, error);
  if (error) system_error(target.string(), ": checkpoint cannot be renamed into place: ", error.message());
  sync_directory(checkpoints_of(run_dir).string());

  std::vector<fs::path> all = list(run_dir);
  for (size_t i = 0; i + static_cast<size_t>(keep) < all.size(); ++i) fs::remove_all(all[i], error);
}

std::optional<Checkpoint> read_last_checkpoint(const std::string& run_dir) {
  const std::vector<fs::path> all = list(run_dir);
  if (all.empty()) return std::nullopt;
  const std::string state_path = (all.back() / "state.json").string();
  Checkpoint checkpoint;
  checkpoint.state = read_json_file(state_path);
  if (!checkpoint.state.is_object() || checkpoint.state.value("format", Json()) != kFormat)
    usage_error(state_path, ": expected checkpoint format ", kFormat, ", found ",
                checkpoint.state.value("format", Json()).dump());
  checkpoint.step = checkpoint.state.at("step").get<int64_t>();
  const io::SafetensorsFile file((all.back() / "tensors.safetensors").string());
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
