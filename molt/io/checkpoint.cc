#include "molt/io/checkpoint.h"

#include <filesystem>
#include <limits>
#include <set>

#include "molt/base/file.h"
#include "molt/io/mapped_file.h"
#include "molt/io/safetensors.h"
#include "molt/io/torch_zip.h"

namespace molt::io {
namespace {

namespace fs = std::filesystem;

bool is_file(const std::string& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

bool is_directory(const std::string& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

std::string in(const std::string& directory, const std::string& name) { return (fs::path(directory) / name).string(); }

/// "org/name" of what could be a model on the hub.
bool looks_like_hub_name(const std::string& path) {
  const size_t slash = path.find('/');
  return slash != std::string::npos && slash > 0 && slash + 1 < path.size() &&
         path.find('/', slash + 1) == std::string::npos && path[0] != '.' && path[0] != '~';
}

[[noreturn]] void not_a_model_directory(const std::string& path) {
  std::error_code error;
  if (fs::exists(path, error)) {
    usage_error(path, ": is a file; expected the directory that holds config.json and model.safetensors");
  }
  if (looks_like_hub_name(path)) {
    const std::string local = path.substr(path.find('/') + 1);
    usage_error(path, ": no such directory; a model is a local directory with config.json and model.safetensors. If ",
                "this is a name on the Hugging Face hub, fetch it first: hf download ", path, " --local-dir ", local,
                ", then give ", local);
  }
  usage_error(path, ": no such directory; expected a model's directory with config.json and model.safetensors");
}

[[noreturn]] void nothing_to_open(const std::string& directory) {
  std::string hint;
  if (is_file(in(directory, "adapter_config.json"))) {
    hint = "; it holds an adapter: give its base model here and the directory as the adapter";
  } else {
    std::error_code error;
    for (const auto& item : fs::directory_iterator(directory, error)) {
      const std::string extension = item.path().extension().string();
      if (extension == ".gguf" || extension == ".pth" || extension == ".ckpt") {
        hint = str("; ", item.path().filename().string(), " is of a format that is not read");
      }
    }
  }
  usage_error(directory, ": holds no model: expected model.safetensors, model.safetensors.index.json, ",
              "pytorch_model.bin or pytorch_model.bin.index.json", hint);
}

/// Replaces the bare words of Python's floats, which only occur outside strings.
std::string without_python_floats(const std::string& text) {
  const std::pair<std::string_view, std::string_view> words[] = {
      {"-Infinity", "-1.7976931348623157e308"}, {"Infinity", "1.7976931348623157e308"}, {"NaN", "null"}};
  std::string result;
  bool in_string = false;
  for (size_t i = 0; i < text.size();) {
    if (in_string && text[i] == '\\' && i + 1 < text.size()) {
      result.append(text, i, 2);
      i += 2;
      continue;
    }
    if (text[i] == '"') in_string = !in_string;
    size_t skip = 0;
    for (const auto& [word, number] : words) {
      if (in_string || skip > 0 || text.compare(i, word.size(), word) != 0) continue;
      result += number;
      skip = word.size();
    }
    if (skip == 0) result += text[i];
    i += skip > 0 ? skip : 1;
  }
  return result;
}

/// {"__float__": "Infinity"}, as newer transformers write it.
void replace_tagged_floats(Json& value) {
  if (value.is_object() && value.size() == 1 && value.contains("__float__") && value["__float__"].is_string()) {
    const std::string word = value["__float__"].get<std::string>();
    constexpr double kLargest = std::numeric_limits<double>::max();
    value = word == "Infinity" ? Json(kLargest) : word == "-Infinity" ? Json(-kLargest) : Json();
    return;
  }
  if (value.is_structured()) {
    for (Json& item : value) replace_tagged_floats(item);
  }
}

}  // namespace

Json read_python_json(const std::string& path) {
  Json value = parse_json(without_python_floats(read_file(path)), path);
  replace_tagged_floats(value);
  return value;
}

std::unique_ptr<TensorFile> open_tensor_file(const std::string& path) {
  if (fs::path(path).extension() == ".safetensors") return std::make_unique<SafetensorsFile>(path);
  return std::make_unique<TorchZipFile>(path);
}

Checkpoint::Checkpoint(const std::string& directory) : directory_(directory) {
  if (!is_directory(directory)) not_a_model_directory(directory);
  bool opened = false;
  for (const char* single : {"model.safetensors", "pytorch_model.bin"}) {
    const std::string index = str(single, ".index.json");
    const bool has_single = is_file(in(directory, single)), has_index = is_file(in(directory, index));
    if (has_single && has_index) {
      usage_error(directory, ": holds both ", single, " and ", index,
                  ", one of them is left over; remove the stale one");
    }
    if (has_single) open_single(single);
    if (has_index) open_sharded(index);
    opened = has_single || has_index;
    if (opened) break;
  }
  if (!opened) nothing_to_open(directory);
  const std::string config = in(directory, "config.json");
  if (is_file(config)) {
    config_ = read_python_json(config);
    if (!config_->is_object()) usage_error(config, ": expected a JSON object, found ", config_->type_name());
  }
}

void Checkpoint::open_single(const std::string& file) {
  files_.push_back(open_tensor_file(in(directory_, file)));
  for (const std::string& name : files_.back()->names()) where_[name] = files_.back().get();
}

void Checkpoint::open_sharded(const std::string& index) {
  const std::string path = in(directory_, index);
  const Json json = read_json_file(path);
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (map == json.end() || !map->is_object()) usage_error(path, ": expected an object \"weight_map\"");
  std::map<std::string, const TensorFile*> shards;
  for (const auto& [name, value] : map->items()) {
    const std::string shard = value.is_string() ? value.get<std::string>() : std::string();
    if (shard.empty() || shard.find('/') != std::string::npos || shard.find('\0') != std::string::npos) {
      usage_error(path, ": tensor ", in_quotes(name), ": expected the name of a file beside the index, found ",
                  in_quotes(shard));
    }
    shards.emplace(shard, nullptr);
  }
  std::string missing;
  size_t missing_count = 0;
  for (const auto& [shard, file] : shards) {
    if (is_file(in(directory_, shard))) continue;
    if (missing_count++ == 0) missing = shard;
  }
  if (missing_count > 0) {
    usage_error(path, ": ", missing_count, " of ", shards.size(), " shards missing, the first is ", in_quotes(missing),
                "; fetch the rest of the model");
  }
  for (auto& [shard, file] : shards) {
    files_.push_back(open_tensor_file(in(directory_, shard)));
    file = files_.back().get();
  }
  for (const auto& [name, value] : map->items()) {
    const TensorFile* const file = shards.at(value.get<std::string>());
    if (!file->has(name))
      usage_error(path, ": tensor ", in_quotes(name), " should be in ", file->path(), ", it is not");
    where_[name] = file;
  }
  std::set<std::string> unlisted;
  for (const auto& file : files_) {
    for (const std::string& name : file->names()) {
      if (map->contains(name)) continue;
      if (!unlisted.insert(name).second) {
        usage_error(path, ": tensor ", in_quotes(name),
                    " is in several shards and the index does not say which to read");
      }
      where_[name] = file.get();
    }
  }
}

void Checkpoint::release() const {
  for (const auto& file : files_) file->release();
}

std::vector<std::string> Checkpoint::files() const {
  std::vector<std::string> paths;
  for (const auto& file : files_) paths.push_back(file->path());
  return paths;
}

std::vector<std::string> Checkpoint::names() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : where_) names.push_back(name);
  return names;
}

const TensorFile& Checkpoint::file_of(const std::string& name) const {
  const auto it = where_.find(name);
  if (it == where_.end()) usage_error(directory_, ": the model has no tensor ", in_quotes(name));
  return *it->second;
}

TensorInfo Checkpoint::info(const std::string& name) const { return file_of(name).info(name); }

Tensor Checkpoint::tensor(const std::string& name) const { return file_of(name).tensor(name); }

const Json& Checkpoint::config() const {
  if (!config_) usage_error(in(directory_, "config.json"), ": missing; it says which model the tensors make up");
  return *config_;
}

}  // namespace molt::io
