// Reads tokenizer.json, vocab.json with merges.txt, and what the files beside them say of special tokens.
#include <algorithm>
#include <filesystem>

#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/text/json_fields.h"
#include "molt/text/tokenizer_state.h"

namespace molt::text {

namespace {

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

/// True for NFC, false for none. Others are refused.
bool read_normalizer(const Json& json, const std::string& where) {
  if (json.is_null()) return false;
  const std::string type = type_field(json, where);
  if (type == "NFC") return true;
  if (type == "Sequence") {
    const Json& stages = field(json, "normalizers", where);
    if (!stages.is_array()) usage_error(where, ": a Sequence needs the list \"normalizers\"");
    bool nfc = false;
    for (const Json& stage : stages) {
      if (type_field(stage, where) == "Sequence") usage_error(where, ": a Sequence within a Sequence is not read");
      nfc = read_normalizer(stage, where) || nfc;
    }
    return nfc;
  }
  usage_error(where, " is of type ", type, "; Molt reads NFC or none");
}

void read_vocab(const Json& json, BpeModel& model, const std::string& where) {
  if (!json.is_object() || json.empty()) usage_error(where, ": the vocabulary must be an object of tokens and ids");
  model.vocab.reserve(json.size());
  for (const auto& [token, id] : json.items()) {
    model.vocab.emplace(token, token_id(id, str("the id of \"", token, "\""), where));
  }
}

void read_merge(const std::string& line, BpeModel& model, const std::string& where) {
  const size_t space = line.find(' ');
  if (space == std::string::npos || space == 0 || space + 1 == line.size() ||
      line.find(' ', space + 1) != std::string::npos)
    usage_error(where, ": merge ", model.merges.size() + 1, " must be two tokens with a space between, not \"", line,
                "\"");
  model.merges.emplace_back(line.substr(0, space), line.substr(space + 1));
}

void read_model(const Json& json, BpeModel& model, const std::string& where) {
  if (!json.is_object()) usage_error(where, ": has no \"model\"");
  const std::string type = string_field(json, "type", where).value_or("BPE");  // old files do not say
  if (type != "BPE") usage_error(where, ": is a ", type, " tokenizer; Molt reads byte-level BPE");
  if (bool_field(json, "byte_fallback", false, where))
    usage_error(where, ": is a SentencePiece-style BPE (byte_fallback); Molt reads byte-level BPE");
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!string_field(json, affix, where).value_or("").empty()) usage_error(where, ": ", affix, " is not read");
  const Json& dropout = field(json, "dropout", where);
  if (!dropout.is_null() && dropout != 0) usage_error(where, ": BPE dropout is not read; set it to null");
  model.unknown = string_field(json, "unk_token", where);
  model.fuse_unknown = bool_field(json, "fuse_unk", false, where);
  model.ignore_merges = bool_field(json, "ignore_merges", false, where);
  read_vocab(field(json, "vocab", where), model, where);
  const Json& merges = field(json, "merges", where);
  if (!merges.is_array()) usage_error(where, ": \"merges\" must be a list");
  model.merges.reserve(merges.size());
  for (const Json& merge : merges) {
    if (merge.is_string()) {
      read_merge(merge.get_ref<const std::string&>(), model, where);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      model.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
    } else {
      usage_error(where, ": merge ", model.merges.size() + 1, " must be two tokens");
    }
  }
}

/// What a TemplateProcessing puts before and after a single text.
void read_template(const Json& json, TokenizerParts& parts, const std::string& where) {
  const Json& single = field(json, "single", where);
  const Json& tokens = field(json, "special_tokens", where);
  if (!single.is_array()) usage_error(where, ": TemplateProcessing needs the list \"single\"");
  bool text_seen = false;
  for (const Json& piece : single) {
    if (!field(piece, "Sequence", where).is_null()) {
      text_seen = true;
      continue;
    }
    const auto name = string_field(field(piece, "SpecialToken", where), "id", where);
    if (!name) usage_error(where, ": a piece of the template is neither Sequence nor SpecialToken");
    const Json& ids = field(field(tokens, name->c_str(), where), "ids", where);
    if (!ids.is_array()) usage_error(where, ": the template's token \"", *name, "\" has no ids");
    for (const Json& id : ids)
      (text_seen ? parts.suffix : parts.prefix).push_back(token_id(id, "an id of the template", where));
  }
}

void read_post_processor(const Json& json, TokenizerParts& parts, const std::string& where) {
  if (json.is_null()) return;
  const std::string type = type_field(json, where);
  if (type == "ByteLevel") return;  // trims offsets, which Molt does not keep
  if (type == "TemplateProcessing") return read_template(json, parts, where);
  if (type != "Sequence") usage_error(where, " is of type ", type, "; Molt reads ByteLevel and TemplateProcessing");
  const Json& stages = field(json, "processors", where);
  if (!stages.is_array()) usage_error(where, ": a Sequence needs the list \"processors\"");
  for (const Json& stage : stages) {
    if (type_field(stage, where) == "Sequence") usage_error(where, ": a Sequence within a Sequence is not read");
    read_post_processor(stage, parts, where);
  }
}

void read_decoder(const Json& json, const std::string& where) {
  const std::string type = json.is_null() ? "null" : type_field(json, where);
  if (type != "ByteLevel" && type != "null") usage_error(where, " is of type ", type, "; Molt reads ByteLevel");
}

}  // namespace

AddedToken read_added_token(const Json& json, int32_t id, const std::string& where) {
  AddedToken token;
  token.id = id;
  const auto content = string_field(json, "content", where);
  if (!content) usage_error(where, ": the added token with id ", id, " has no \"content\"");
  token.content = *content;
  token.special = bool_field(json, "special", false, where);
  token.normalized = bool_field(json, "normalized", !token.special, where);
  token.single_word = bool_field(json, "single_word", false, where);
  token.lstrip = bool_field(json, "lstrip", false, where);
  token.rstrip = bool_field(json, "rstrip", false, where);
  return token;
}

TokenizerSource read_tokenizer_json(const Json& json, const std::string& where) {
  TokenizerParts parts;
  read_model(field(json, "model", where), parts.model, where);
  parts.nfc = read_normalizer(field(json, "normalizer", where), where + ": normalizer");
  PreTokenizer pre_tokenizer = PreTokenizer::from_json(field(json, "pre_tokenizer", where), where + ": pre_tokenizer");
  read_post_processor(field(json, "post_processor", where), parts, where + ": post_processor");
  read_decoder(field(json, "decoder", where), where + ": decoder");
  const Json& added = field(json, "added_tokens", where);
  if (!added.is_null() && !added.is_array()) usage_error(where, ": \"added_tokens\" must be a list");
  for (const Json& token : added)
    parts.added.push_back(
        read_added_token(token, token_id(field(token, "id", where), "the id of an added token", where), where));
  return {std::move(parts), std::move(pre_tokenizer), where, ""};
}

TokenizerSource read_vocab_and_merges(const std::string& directory) {
  const std::string vocab_path = directory + "/vocab.json", merges_path = directory + "/merges.txt";
  TokenizerParts parts;
  read_vocab(read_json_file(vocab_path), parts.model, vocab_path);
  const std::string merges = read_file(merges_path);
  for (size_t at = 0; at < merges.size();) {
    size_t end = std::min(merges.find('\n', at), merges.size());
    std::string line = merges.substr(at, end - at);
    if (!line.empty() && line.back() == '\r') line.pop_back();
    const bool header = at == 0 && line.rfind("#version", 0) == 0;
    if (!header && !line.empty()) read_merge(line, parts.model, merges_path);
    at = end + 1;
  }
  bool add_prefix_space = false;
  if (const std::string path = directory + "/tokenizer_config.json"; exists(path)) {
    const Json config = read_json_file(path);
    add_prefix_space = bool_field(config, "add_prefix_space", false, path);
    const Json& added = field(config, "added_tokens_decoder", path);
    if (!added.is_null() && !added.is_object()) usage_error(path, ": \"added_tokens_decoder\" must be an object");
    for (const auto& [key, token] : added.items()) {
      const Json id = Json::parse(key, nullptr, false);
      parts.added.push_back(read_added_token(token, token_id(id, "a key of added_tokens_decoder", path), path));
    }
  }
  const auto end = parts.model.vocab.find(kEndOfText);
  const auto is_end = [](const AddedToken& t) { return t.content == kEndOfText; };
  if (end != parts.model.vocab.end() && std::none_of(parts.added.begin(), parts.added.end(), is_end))
    parts.added.push_back({end->second, kEndOfText, true, false, false, false, false});
  return {std::move(parts), PreTokenizer::gpt2(add_prefix_space), directory, directory};
}

TokenizerSource read_tokenizer_source(const std::string& path) {
  std::error_code ignored;
  const bool is_directory = std::filesystem::is_directory(path, ignored);
  const std::string directory = is_directory ? path : std::filesystem::path(path).parent_path().string();
  const std::string prefix = directory.empty() ? "" : directory + "/";
  const std::string json = is_directory ? prefix + "tokenizer.json" : path;
  if (is_directory && !exists(json)) {
    if (exists(prefix + "vocab.json") && exists(prefix + "merges.txt")) return read_vocab_and_merges(directory);
    if (exists(prefix + "tokenizer.model"))
      usage_error(path,
                  ": holds a SentencePiece model (tokenizer.model); Molt reads byte-level BPE from tokenizer.json");
    usage_error(path, ": holds no tokenizer.json (nor vocab.json with merges.txt)");
  }
  TokenizerSource source = read_tokenizer_json(read_json_file(json), json);
  source.directory = directory;
  return source;
}

void read_special_roles(const std::string& directory, Tokenizer::State& state) {
  const std::string prefix = directory.empty() ? "" : directory + "/";
  struct {
    const char* token;
    const char* id;
    std::optional<int32_t>& target;
    std::optional<int32_t> role = std::nullopt;
  } roles[] = {{"eos_token", "eos_token_id", state.eos},
               {"bos_token", "bos_token_id", state.bos},
               {"pad_token", "pad_token_id", state.pad}};
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const std::string path = prefix + name;
    if (!exists(path)) continue;
    const Json json = read_json_file(path);
    for (auto& r : roles) {
      const auto content = token_content(json, r.token, path);
      if (r.role || !content || content->empty()) continue;
      const auto found = state.ids.find(*content);
      if (found == state.ids.end()) usage_error(path, ": ", r.token, " \"", *content, "\" is not in the vocabulary");
      r.role = found->second;
    }
  }
  if (const std::string path = prefix + "config.json"; exists(path)) {
    const Json json = read_json_file(path);
    for (auto& r : roles) {
      const Json& value = field(json, r.id, path);
      const Json& id = value.is_array() && !value.empty() ? value[0] : value;
      // A model's config may keep its family's default, which this vocabulary need not have.
      if (r.role || !id.is_number_integer() || id < 0 || id >= static_cast<int64_t>(state.tokens.size())) continue;
      if (state.tokens[id.get<size_t>()].used) r.role = id.get<int32_t>();
    }
  }
  for (const auto& r : roles)
    if (r.role) r.target = r.role;
}

}  // namespace molt::text
