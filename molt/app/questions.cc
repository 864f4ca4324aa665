#include "molt/app/questions.h"

#include <filesystem>

#include "molt/base/error.h"
#include "molt/data/line_reader.h"
#include "molt/data/record.h"
#include "molt/text/utf8.h"

namespace molt::app {
namespace {

void check_text(const std::string& text, const std::string& where) {
  const size_t at = text::find_invalid_utf8(text);
  if (at < text.size()) usage_error(where, ": expected UTF-8 text, found something else at byte ", at);
}

std::vector<data::Example> read_lines(const std::string& path, const std::string& prompt_template) {
  if (!prompt_template.empty())
    usage_error(path, ": has one prompt per line; a template needs records (.jsonl, .json, .csv or .tsv)");
  std::vector<data::Example> questions;
  data::LineReader reader(path);
  for (std::string line; reader.next(line);)
    if (!line.empty()) questions.push_back(plain_question(line, reader.where()));
  return questions;
}

/// How the records of a file are to be read, by its first one.
data::DataConfig config_for(const std::string& path, const std::string& format, const std::string& prompt_template) {
  data::DataConfig config;
  config.format = format;
  // What the answer should be does not matter here, but an example has one.
  config.prompt = config.completion = prompt_template;
  if (!prompt_template.empty()) return config;
  data::read_records(path, format, true, [&](const data::Record& record) {
    for (const char* field : {"messages", "conversations"})
      if (record.is_object() && record.has(field)) return config.messages_field = field, false;
    if (!record.has("prompt"))
      usage_error(record.where(), ": expected a field \"prompt\" or \"messages\", found ", record.names(),
                  "; name others with a template, such as --prompt \"{question}\"");
    config.prompt = config.completion = "{prompt}";
    return false;
  });
  return config;
}

}  // namespace

data::Example plain_question(const std::string& prompt, const std::string& where) {
  check_text(prompt, where);
  data::Example e;
  e.prompt = prompt;
  e.where = where;
  return e;
}

data::Example chat_question(std::vector<data::Message> turns, const std::string& where) {
  data::Example e;
  for (const data::Message& turn : turns) check_text(turn.content, where);
  e.layout = data::Layout::kChat;
  e.messages = std::move(turns);
  e.messages.push_back({"assistant", ""});
  e.where = where;
  return e;
}

std::vector<data::Example> read_questions(const std::string& path, const std::string& prompt_template) {
  const bool named = std::filesystem::path(path).has_extension();
  const std::string format = named ? data::format_of(path, "auto") : "text";
  std::vector<data::Example> questions = format == "text"
                                             ? read_lines(path, prompt_template)
                                             : data::read_examples(config_for(path, format, prompt_template), {path});
  if (questions.empty()) usage_error(path, ": expected at least one prompt, found none");
  for (data::Example& e : questions)
    if (e.layout == data::Layout::kChat && e.messages.back().role != "assistant")
      e.messages.push_back({"assistant", ""});
  return questions;
}

std::vector<std::string> read_question_adapters(const std::string& path, size_t questions) {
  std::vector<std::string> names;
  const bool named = std::filesystem::path(path).has_extension();
  const std::string format = named ? data::format_of(path, "auto") : "text";
  if (format == "text") return std::vector<std::string>(questions);
  data::read_records(path, format, true, [&](const data::Record& record) {
    if (!record.has("adapter")) {
      names.emplace_back();
    } else {
      const Json* value = record.find("adapter");
      if (value && !value->is_null() && !value->is_string())
        usage_error(record.where(), ": adapter: expected a name or null, found ", value->dump());
      names.push_back(value && value->is_null() ? "none" : record.text("adapter"));
    }
    return true;
  });
  MOLT_CHECK(names.size() == questions, path, ": ", names.size(), " records, ", questions, " questions");
  return names;
}

std::vector<int32_t> question_ids(const data::Example& question, const data::Encoder& encoder) {
  return data::encode_question(question, {}, encoder).prompt;
}

}  // namespace molt::app
