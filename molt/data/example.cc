#include "molt/data/example.h"

#include <algorithm>
#include <cctype>
#include <numeric>
#include <optional>
#include <unordered_map>
#include <utility>

#include "molt/base/error.h"
#include "molt/base/escape.h"
#include "molt/base/near.h"
#include "molt/base/rng.h"
#include "molt/data/field_template.h"
#include "molt/data/record.h"

namespace molt::data {
namespace {

/// The text of a message: a string, or a list of {"type": "text", "text": …} parts.
std::string message_text(const Json& content, const std::string& where) {
  if (content.is_string()) return content.get<std::string>();
  std::string text;
  if (!content.is_array()) usage_error(where, ": expected text as content, found ", content.type_name());
  for (const Json& part : content) {
    const auto it = part.is_object() ? part.find("text") : part.end();
    if (!part.is_object() || it == part.end() || !it->is_string())
      usage_error(where, ": expected parts {\"type\": \"text\", \"text\": …} as content, found ",
                  part.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 60));
    text += it->get<std::string>();
  }
  return text;
}

/// ShareGPT's role names in everybody's. Throws UsageError for "Assistant" and the like, whose turns would not train;
/// other names are the template's affair.
std::string common_role(const std::string& role, const std::string& where) {
  std::string lower = role;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  for (const std::string known : {"assistant", "user", "system", "human", "gpt"})
    if (role != known && (lower == known || (known == "assistant" && edit_distance(lower, known) <= 2)))
      usage_error(where, ": the role is \"", role, "\"; expected ", known);
  return role == "human" ? "user" : role == "gpt" ? "assistant" : role;
}

/// Templates here have no place for calls of functions: a chat would be read as if there were none.
void refuse_calls(const Json& calls, const char* key, const std::string& where) {
  const bool none = calls.empty() || calls == "" || calls == "[]" || calls == "null";
  if (!none)
    usage_error(where, ": has ", key,
                ", for which chats have no place here; write them out as text, or leave them out");
}

std::vector<Message> read_messages(const Json& list, const std::string& where) {
  if (!list.is_array() || list.empty())
    usage_error(where, ": expected a list of messages {role, content}, found ",
                list.is_array() ? "an empty one" : list.type_name());
  std::vector<Message> messages;
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string place = str(where, ": message ", i + 1);
    const Json& item = list[i];
    for (const char* calls : {"tool_calls", "function_call"})
      if (item.is_object() && item.contains(calls)) refuse_calls(item[calls], calls, place);
    const bool share = item.is_object() && item.contains("from") && item.contains("value");
    const char *role = share ? "from" : "role", *content = share ? "value" : "content";
    if (!item.is_object() || !item.contains(role) || !item[role].is_string() || !item.contains(content))
      usage_error(place, ": expected an object with role and content, found ",
                  item.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 60));
    messages.push_back({common_role(item[role].get<std::string>(), place), message_text(item[content], place)});
  }
  return messages;
}

/// Turns records into examples, with the config's words compiled once.
class ExampleMaker {
 public:
  explicit ExampleMaker(const DataConfig& config) : config_(config) {
    if (!config.messages_field.empty()) set_chat(config.messages_field);
    if (!config.text_field.empty()) set_text(config.text_field);
    if (!config.prompt.empty() || !config.completion.empty()) set_completion();
    for (const auto& pair : config.map_completion) {
      const size_t equals = pair.find('=');
      renames_.emplace(pair.substr(0, equals), pair.substr(equals + 1));
    }
  }

  void add(Record record, std::vector<Example>& out) {
    if (config_.each.empty()) return add_one(record, out);
    const Json* list = record.find(config_.each);
    if (!list || !list->is_array())
      usage_error(record.where(), ": expected a list in field \"", config_.each, "\" (data.each), found ",
                  list ? list->type_name() : record.names());
    const Json items = *list;
    for (const Json& item : items) {
      record.set(config_.each, item);
      add_one(record, out);
    }
  }

 private:
  void set_chat(const std::string& field) {
    layout_ = Layout::kChat, field_ = field;
    if (!config_.append_eos)
      usage_error("data.append_eos: is not of chats, whose turns end as their template says; leave it out");
    has_no("prefix", config_.prefix.empty());
    check_no_prompt();
  }
  void set_text(const std::string& field) {
    layout_ = Layout::kText, field_ = field;
    check_no_prompt();
  }
  /// What would say nothing to examples without prompt and completion.
  void check_no_prompt() const {
    has_no("separator", config_.separator.empty());
    has_no("map_completion", config_.map_completion.empty());
  }
  void has_no(const char* key, bool absent) const {
    if (!absent)
      usage_error("data.", key, ": is of examples with prompt and completion, and these have \"", field_,
                  "\"; leave it out");
  }
  void set_completion() {
    layout_ = Layout::kCompletion;
    prompt_ = FieldTemplate(config_.prompt.empty() ? "{prompt}" : config_.prompt, "data.prompt");
    completion_ = FieldTemplate(config_.completion.empty() ? "{completion}" : config_.completion, "data.completion");
  }

  void detect(const Record& record) {
    if (record.is_object() && record.has("messages")) return set_chat("messages");
    if (record.is_object() && record.has("conversations")) return set_chat("conversations");
    if (record.has("prompt") && record.has("completion")) return set_completion();
    if (record.has("text")) return set_text("text");
    usage_error(record.where(), ": expected fields prompt and completion, messages, or text; found ", record.names(),
                "; say how to read them with data.prompt and data.completion, such as \"{question}\"");
  }

  void add_one(const Record& record, std::vector<Example>& out) {
    if (!layout_) detect(record);
    Example e;
    e.layout = *layout_;
    e.where = record.where();
    if (e.layout == Layout::kChat) {
      const Json* list = record.find(field_);
      if (!list) usage_error(e.where, ": expected a field \"", field_, "\", found ", record.names());
      if (const Json* tools = record.find("tools")) refuse_calls(*tools, "tools", e.where);
      e.messages = read_messages(*list, e.where);
    } else if (e.layout == Layout::kText) {
      e.completion = record.text(field_);
    } else {
      e.prompt = prompt_.render(record) + separator_;
      e.completion = completion_.render(record);
      if (!renames_.empty()) {
        const auto it = renames_.find(e.completion);
        if (it == renames_.end())
          usage_error(e.where, ": completion \"", e.completion.substr(0, 60), "\" is not among data.map_completion");
        e.completion = it->second;
      }
    }
    out.push_back(std::move(e));
  }

  const DataConfig& config_;
  std::optional<Layout> layout_;
  std::string field_;
  FieldTemplate prompt_, completion_;
  const std::string separator_ = unescape(config_.separator);
  std::unordered_map<std::string, std::string> renames_;
};

}  // namespace

std::vector<Example> read_examples(const DataConfig& config, const std::vector<std::string>& paths) {
  ExampleMaker maker(config);
  std::vector<Example> examples;
  for (const auto& path : paths) {
    const size_t before = examples.size();
    read_records(path, format_of(path, config.format), config.header, [&](Record record) {
      maker.add(std::move(record), examples);
      return true;
    });
    if (examples.size() == before) usage_error(path, ": expected at least one example, found none");
  }
  return examples;
}

std::vector<Example> group_by_prompt(std::vector<Example> examples) {
  std::vector<Example> grouped;
  std::unordered_map<std::string, size_t> first;
  for (Example& e : examples) {
    const auto [it, fresh] = first.emplace(e.prompt, grouped.size());
    if (fresh || e.layout != Layout::kCompletion)
      grouped.push_back(std::move(e));
    else
      grouped[it->second].references.push_back(std::move(e.completion));
  }
  return grouped;
}

std::vector<uint32_t> permutation(size_t n, uint64_t key) {
  MOLT_CHECK(n <= UINT32_MAX, "permutation: ", n, " items are more than 2^32");
  std::vector<uint32_t> order(n);
  std::iota(order.begin(), order.end(), 0u);
  const Rng rng(key);
  for (size_t i = n; i > 1; --i) std::swap(order[i - 1], order[rng.below(n - i, static_cast<uint32_t>(i))]);
  return order;
}

std::vector<size_t> choose(size_t n, size_t limit, bool sample, uint64_t seed) {
  std::vector<size_t> chosen(std::min(n, limit));
  std::iota(chosen.begin(), chosen.end(), size_t{0});
  if (sample && limit < n) {
    const auto order = permutation(n, mix_keys(seed, hash_name("data.sample")));
    std::copy_n(order.begin(), limit, chosen.begin());
    std::sort(chosen.begin(), chosen.end());
  }
  return chosen;
}

}  // namespace molt::data
