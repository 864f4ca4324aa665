#include "molt/io/adapter.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "molt/base/file.h"
#include "molt/io/checkpoint.h"

namespace molt::io {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "adapter_config.json";
constexpr const char* kWeights = "adapter_model.safetensors";
constexpr const char* kTorchWeights = "adapter_model.bin";
constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kPromptEmbeddings = "prompt_embeddings";

/// The words with which PEFT's methods begin what follows the module's path.
constexpr std::string_view kMarkers[] = {
    "lora_A", "lora_B",        "lora_embedding_A",       "lora_embedding_B", "lora_magnitude_vector",
    "ia3_l",  "token_adapter", "trainable_tokens_delta", "base_layer",
};

bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

/// A directory that goes away with everything in it unless it was renamed.
struct TemporaryDirectory {
  fs::path path;
  ~TemporaryDirectory() {
    std::error_code error;
    if (!path.empty()) fs::remove_all(path, error);
  }
};

void write_files(const fs::path& directory, const AdapterFiles& adapter) {
  write_safetensors((directory / kWeights).string(), adapter.tensors, {{"format", "pt"}});
  write_file_atomic((directory / kConfig).string(),
                    adapter.config.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace

AdapterFiles read_adapter(const std::string& directory) {
  const fs::path dir(directory);
  std::error_code error;
  if (!fs::is_directory(dir, error)) {
    usage_error(directory, ": expected an adapter's directory with ", kConfig, " and ", kWeights,
                fs::exists(dir, error) ? ", found a file" : ", there is none");
  }
  if (!is_file(dir / kConfig)) {
    std::string below;
    for (const auto& item : fs::directory_iterator(dir, error)) {
      if (is_file(item.path() / kConfig)) below = item.path().string();
    }
    usage_error(directory, ": holds no ", kConfig,
                below.empty() ? std::string("; it is not an adapter, or one whose writing was interrupted")
                              : str("; one is in ", below));
  }
  AdapterFiles adapter;
  const std::string config = (dir / kConfig).string();
  adapter.config = read_python_json(config);
  if (!adapter.config.is_object()) {
    usage_error(config, ": expected a JSON object, found ", adapter.config.type_name());
  }
  const char* const weights = is_file(dir / kWeights) ? kWeights : kTorchWeights;
  if (!is_file(dir / weights)) usage_error(directory, ": holds neither ", kWeights, " nor ", kTorchWeights);
  const auto file = open_tensor_file((dir / weights).string());
  for (const std::string& name : file->names()) adapter.tensors.emplace_back(name, file->tensor(name));
  return adapter;
}

void write_adapter(const std::string& directory, const AdapterFiles& adapter) {
  MOLT_CHECK(adapter.config.is_object(), "write_adapter: the config is not an object");
  fs::path dir(directory);
  if (dir.filename().empty()) dir = dir.parent_path();  // a trailing slash
  std::error_code error;
  const bool exists = fs::exists(dir, error);
  if (exists && !fs::is_directory(dir, error)) {
    usage_error(directory, ": is a file; an adapter is written into a directory");
  }
  if (!exists && dir.has_parent_path()) make_directories(dir.parent_path().string());
  const std::string name = str(dir.filename().string(), ".tmp.", ::getpid());
  TemporaryDirectory temporary{exists ? dir / ("." + name) : dir.parent_path() / name};
  fs::remove_all(temporary.path, error);
  make_directories(temporary.path.string());
  write_files(temporary.path, adapter);

  const auto move = [](const fs::path& from, const fs::path& to) {
    std::error_code cause;
    fs::rename(from, to, cause);
    if (cause) system_error(to.string(), ": cannot be put in place: ", cause.message());
  };
  if (!exists) {
    move(temporary.path, dir);
    temporary.path.clear();
    return;
  }
  // Without its config the directory is no adapter, so no crash from here on leaves old and new side by side.
  fs::remove(dir / kConfig, error);
  fs::remove(dir / kTorchWeights, error);
  move(temporary.path / kWeights, dir / kWeights);
  move(temporary.path / kConfig, dir / kConfig);
}

std::string peft_key(std::string_view module, std::string_view suffix) {
  return module.empty() ? std::string(suffix) : str(kPrefix, module, ".", suffix);
}

std::optional<PeftKey> split_peft_key(std::string_view key) {
  if (key == kPromptEmbeddings) return PeftKey{"", std::string(key)};
  if (key.substr(0, kPrefix.size()) != kPrefix) return {};
  std::string_view path = key.substr(kPrefix.size());
  std::vector<std::pair<size_t, std::string_view>> words;  // where each begins
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('.', begin), path.size());
    words.emplace_back(begin, path.substr(begin, end - begin));
    begin = end + 1;
  }
  for (size_t i = 1; i < words.size(); ++i) {
    const auto [begin, word] = words[i];
    if (std::find(std::begin(kMarkers), std::end(kMarkers), word) == std::end(kMarkers)) continue;
    std::string suffix(path.substr(begin));
    if (word.substr(0, 5) == "lora_" && words.size() == i + 3 && words[i + 2].second != "") {
      suffix = str(word, ".", words[i + 2].second);  // lora_A.NAME.weight
    }
    return PeftKey{std::string(path.substr(0, begin - 1)), suffix};
  }
  if (words.size() < 2 || words.back().second.empty()) return {};
  return PeftKey{std::string(path.substr(0, words.back().first - 1)), std::string(words.back().second)};
}

}  // namespace molt::io
