#include "molt/text/chat_template.h"

#include <algorithm>
#include <filesystem>

#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/base/json.h"
#include "molt/text/jinja_form.h"
#include "molt/text/json_fields.h"

namespace molt::text {

namespace {

using Form = std::vector<std::string>;

constexpr const char* kChatMlJinja =
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

constexpr const char* kZephyrJinja =
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<|user|>\\n' + message['content'] + eos_token + '\\n' }}"
    "{% elif message['role'] == 'system' %}{{ '<|system|>\\n' + message['content'] + eos_token + '\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ '<|assistant|>\\n' + message['content'] + eos_token + '\\n' }}"
    "{% endif %}"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    "{% endfor %}";

void append(Form& form, const Form& more) { form.insert(form.end(), more.begin(), more.end()); }

/// `body` for each message, with the prompt for an answer at the end: within the loop, behind it, or not at all.
std::vector<Form> with_prompt(const Form& body, const std::string& prompt) {
  const Form loop = {"for message in messages"};
  Form inside = loop, behind = loop, without = loop;
  append(inside, body);
  append(inside, {"if loop.last and add_generation_prompt", prompt, "endif", "endfor"});
  append(behind, body);
  append(behind, {"endfor", "if add_generation_prompt", prompt, "endif"});
  append(without, body);
  append(without, {"endfor"});
  return {inside, behind, without};
}

std::vector<Form> chatml_forms() {
  return with_prompt({R"(emit "<|im_start|>" message.role "\n" message.content "<|im_end|>\n")"},
                     R"(emit "<|im_start|>assistant\n")");
}

std::vector<Form> zephyr_forms() {
  std::vector<Form> forms;
  for (const auto& roles : {std::vector<std::string>{"user", "system", "assistant"}, {"system", "user", "assistant"}}) {
    Form body;
    for (const std::string& role : roles) {
      body.push_back(str(body.empty() ? "if" : "elif", " message.role == \"", role, "\""));
      body.push_back(str("emit \"<|", role, "|>\\n\" message.content eos_token \"\\n\""));
    }
    body.push_back("endif");
    for (Form& form : with_prompt(body, R"(emit "<|assistant|>\n")")) forms.push_back(std::move(form));
  }
  return forms;
}

/// Drops what changes nothing, or is handled apart: the default of add_generation_prompt and the token at the
/// beginning.
Form without_preamble(Form form, bool& begins_with_bos) {
  const Form defaults[] = {{"if not add_generation_prompt is defined", "set add_generation_prompt = false", "endif"},
                           {"if add_generation_prompt is not defined", "set add_generation_prompt = false", "endif"}};
  for (const Form& d : defaults)
    if (form.size() > d.size() && std::equal(d.begin(), d.end(), form.begin()))
      form.erase(form.begin(), form.begin() + static_cast<ptrdiff_t>(d.size()));
  begins_with_bos = !form.empty() && form[0] == "emit bos_token";
  if (begins_with_bos) form.erase(form.begin());
  return form;
}

/// What a template is known as, by the marks it writes.
std::string known_as(const std::string& jinja) {
  const struct {
    const char* mark;
    const char* name;
  } marks[] = {{"<|start_header_id|>", "Llama 3"},
               {"[INST]", "Llama 2 or Mistral"},
               {"<start_of_turn>", "Gemma"},
               {"<|start_of_role|>", "Granite"},
               {"<|START_OF_TURN_TOKEN|>", "Command R"},
               {"<|channel|>", "Harmony"},
               {"### Instruction", "Alpaca"},
               {"<SPECIAL_10>", "Nemotron"},
               {"<|im_start|>", "a variant of ChatML"},
               {"<|assistant|>", "a variant of Zephyr"}};
  for (const auto& m : marks)
    if (jinja.find(m.mark) != std::string::npos) return m.name;
  return "one that Molt does not know";
}

/// The text of `chat_template`: a string, or the entry "default" of a list of named ones.
std::optional<std::string> template_of(const Json& config, const std::string& where) {
  const Json& value = field(config, "chat_template", where);
  if (!value.is_array()) return string_field(config, "chat_template", where);
  for (const Json& entry : value)
    if (string_field(entry, "name", where) == "default") return string_field(entry, "template", where);
  usage_error(where, ": \"chat_template\" is a list without an entry named \"default\"");
}

}  // namespace

ChatTemplate ChatTemplate::named(const std::string& name, const std::string& eos_token) {
  if (name == "chatml") return {ChatFormat::kChatMl, "", eos_token};
  if (name != "zephyr") usage_error("chat template \"", name, "\" is not known; Molt has chatml and zephyr");
  if (eos_token.empty())
    usage_error("the zephyr chat template ends turns with eos_token, which the tokenizer does not name");
  return {ChatFormat::kZephyr, "", eos_token};
}

ChatTemplate ChatTemplate::recognise(const std::string& jinja, const std::string& bos_token,
                                     const std::string& eos_token, const std::string& where) {
  bool begins_with_bos = false;
  const Form form = without_preamble(jinja_form(jinja, where), begins_with_bos);
  const auto is_one_of = [&](const std::vector<Form>& forms) {
    return std::find(forms.begin(), forms.end(), form) != forms.end();
  };
  const char* name = is_one_of(chatml_forms()) ? "chatml" : is_one_of(zephyr_forms()) ? "zephyr" : nullptr;
  if (!name)
    usage_error(where, ": the chat template is ", known_as(jinja),
                "; Molt renders plain ChatML and Zephyr; write these chats as prompt and completion instead");
  ChatTemplate found = named(name, eos_token);
  if (begins_with_bos) found.bos_ = bos_token;
  return found;
}

std::optional<ChatTemplate> ChatTemplate::of_checkpoint(const std::string& directory) {
  const auto exists = [](const std::string& path) {
    std::error_code ignored;
    return std::filesystem::exists(path, ignored);
  };
  const std::string config_path = directory + "/tokenizer_config.json",
                    map_path = directory + "/special_tokens_map.json", jinja_path = directory + "/chat_template.jinja";
  std::optional<std::string> jinja, bos, eos;
  std::string where = config_path;
  if (exists(config_path)) {
    const Json config = read_json_file(config_path);
    bos = token_content(config, "bos_token", config_path);
    eos = token_content(config, "eos_token", config_path);
    jinja = template_of(config, config_path);
  }
  if (exists(map_path) && !(bos && eos)) {
    const Json map = read_json_file(map_path);
    if (!bos) bos = token_content(map, "bos_token", map_path);
    if (!eos) eos = token_content(map, "eos_token", map_path);
  }
  if (exists(jinja_path)) jinja = read_file(where = jinja_path);
  if (!jinja) return std::nullopt;
  return recognise(*jinja, bos.value_or(""), eos.value_or(""), where);
}

std::vector<ChatPiece> ChatTemplate::render(const std::vector<ChatMessage>& messages,
                                            bool add_generation_prompt) const {
  std::vector<ChatPiece> pieces;
  const auto add = [&](const std::string& text, bool assistant) {
    if (text.empty()) return;
    if (pieces.empty() || pieces.back().assistant != assistant) pieces.push_back({"", assistant});
    pieces.back().text += text;
  };
  const auto opening = [&](const std::string& role) {
    return format_ == ChatFormat::kChatMl ? "<|im_start|>" + role + "\n" : "<|" + role + "|>\n";
  };
  add(bos_, false);
  for (const ChatMessage& m : messages) {
    const bool assistant = m.role == "assistant";
    if (format_ == ChatFormat::kZephyr && !assistant && m.role != "user" && m.role != "system")
      usage_error("the zephyr chat template has the roles system, user and assistant, not \"", m.role, "\"");
    if (m.role.empty()) usage_error("a chat message has no role");
    add(opening(m.role), false);
    add(m.content + end_of_turn(), assistant);
    add("\n", false);
  }
  if (add_generation_prompt) add(opening("assistant"), false);
  return pieces;
}

std::string ChatTemplate::jinja() const {
  const std::string body = format_ == ChatFormat::kChatMl ? kChatMlJinja : kZephyrJinja;
  return bos_.empty() ? body : "{{ bos_token }}" + body;
}

}  // namespace molt::text
