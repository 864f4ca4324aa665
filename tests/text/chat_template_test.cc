// Chat templates: recognised in the spellings that checkpoints have and rendered as transformers renders them
// (tests/golden/chat.json, made by tools/golden/make_chat_golden.py), or refused by name.
#include "molt/text/chat_template.h"

#include <gtest/gtest.h>

#include <functional>

#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/base/json.h"
#include "molt/text/jinja_form.h"
#include "tests/text/shared.h"

namespace molt::text {
namespace {

std::vector<ChatMessage> messages_of(const Json& json) {
  std::vector<ChatMessage> messages;
  for (const Json& m : json) messages.push_back({m["role"], m["content"]});
  return messages;
}

std::string joined(const std::vector<ChatPiece>& pieces) {
  std::string text;
  for (const ChatPiece& p : pieces) text += p.text;
  return text;
}

std::string refusal(const std::function<void()>& attempt) {
  try {
    attempt();
  } catch (const UsageError& e) {
    return e.what();
  }
  return "accepted";
}

TEST(ChatTemplate, RendersAsTransformersDoes) {
  const Json golden = read_json_file(MOLT_SOURCE_DIR "/tests/golden/chat.json");
  int rendered = 0, refused = 0;
  for (const Json& t : golden["templates"]) {
    const auto recognise = [&](const std::string& jinja) {
      return ChatTemplate::recognise(jinja, golden["bos_token"], golden["eos_token"], "a file");
    };
    if (t["is"].is_null()) {
      const std::string said = refusal([&] { recognise(t["template"]); });
      EXPECT_EQ(said.rfind("a file: the chat template is ", 0), 0u) << said << "\n" << t["template"];
      ++refused;
      continue;
    }
    const ChatTemplate found = recognise(t["template"]);
    EXPECT_EQ(found.name(), t["is"].get<std::string>());
    EXPECT_EQ(recognise(found.jinja()).format(), found.format());
    for (const Json& c : t["cases"]) {
      EXPECT_EQ(joined(found.render(messages_of(c["messages"]), c["add_generation_prompt"])),
                c["text"].get<std::string>())
          << t["template"];
      ++rendered;
    }
  }
  EXPECT_GE(rendered, 40);
  EXPECT_GE(refused, 6);
}

TEST(ChatTemplate, MarksWhatTheAssistantWrites) {
  const std::vector<ChatMessage> chat = {
      {"system", "S"}, {"user", "U"}, {"assistant", "A"}, {"user", "V"}, {"assistant", ""}};
  const auto pieces = ChatTemplate::named("chatml", "").render(chat);
  const std::vector<std::pair<std::string, bool>> chatml = {
      {"<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n", false},
      {"A<|im_end|>", true},
      {"\n<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n", false},
      {"<|im_end|>", true},
      {"\n", false}};
  ASSERT_EQ(pieces.size(), chatml.size());
  for (size_t i = 0; i < pieces.size(); ++i) {
    EXPECT_EQ(pieces[i].text, chatml[i].first);
    EXPECT_EQ(pieces[i].assistant, chatml[i].second);
  }
  const auto zephyr = ChatTemplate::named("zephyr", "</s>").render(chat);
  ASSERT_EQ(zephyr.size(), 5u);
  EXPECT_EQ(zephyr[0].text, "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\n");
  EXPECT_EQ(zephyr[1].text, "A</s>");
  EXPECT_TRUE(zephyr[1].assistant);
  EXPECT_EQ(ChatTemplate::named("zephyr", "</s>").end_of_turn(), "</s>");
  EXPECT_EQ(ChatTemplate::named("chatml", "</s>").end_of_turn(), "<|im_end|>");
}

TEST(ChatTemplate, IsFoundInACheckpoint) {
  const TempDir dir;
  EXPECT_EQ(ChatTemplate::of_checkpoint(dir.path()), std::nullopt);
  const std::string chatml = ChatTemplate::named("chatml", "").jinja(),
                    zephyr = ChatTemplate::named("zephyr", "x").jinja();
  Json config = {{"eos_token", {{"content", "</s>"}}}};
  write_file_atomic(dir / "tokenizer_config.json", config.dump());
  EXPECT_EQ(ChatTemplate::of_checkpoint(dir.path()), std::nullopt);
  config["chat_template"] = zephyr;
  write_file_atomic(dir / "tokenizer_config.json", config.dump());
  EXPECT_EQ(ChatTemplate::of_checkpoint(dir.path())->format(), ChatFormat::kZephyr);
  EXPECT_EQ(ChatTemplate::of_checkpoint(dir.path())->end_of_turn(), "</s>");
  config["chat_template"] =
      Json::array({{{"name", "tool"}, {"template", "?"}}, {{"name", "default"}, {"template", chatml}}});
  write_file_atomic(dir / "tokenizer_config.json", config.dump());
  EXPECT_EQ(ChatTemplate::of_checkpoint(dir.path())->format(), ChatFormat::kChatMl);
  config["chat_template"].erase(1);
  write_file_atomic(dir / "tokenizer_config.json", config.dump());
  EXPECT_THROW(ChatTemplate::of_checkpoint(dir.path()), UsageError);
  config = {{"chat_template", chatml}};
  write_file_atomic(dir / "tokenizer_config.json", config.dump());
  write_file_atomic(dir / "chat_template.jinja", zephyr);
  EXPECT_THROW(ChatTemplate::of_checkpoint(dir.path()), UsageError);  // no eos_token to end turns with
  write_file_atomic(dir / "special_tokens_map.json", R"({"eos_token": "<end>"})");
  EXPECT_EQ(ChatTemplate::of_checkpoint(dir.path())->end_of_turn(), "<end>");
  write_file_atomic(dir / "special_tokens_map.json", "[]");
  EXPECT_THROW(ChatTemplate::of_checkpoint(dir.path()), UsageError);
}

TEST(ChatTemplate, RefusesByName) {
  const auto recognise = [](const std::string& jinja) {
    return refusal([&] { ChatTemplate::recognise(jinja, "", "</s>", "f"); });
  };
  EXPECT_NE(recognise("{{ '<|start_header_id|>' }}").find("Llama 3"), std::string::npos);
  EXPECT_NE(recognise("{{ '<start_of_turn>' }}").find("Gemma"), std::string::npos);
  EXPECT_NE(recognise("{{ '<|im_start|>' + x }}").find("a variant of ChatML"), std::string::npos);
  EXPECT_NE(recognise("").find("does not know"), std::string::npos);
  EXPECT_NE(recognise("{% for").find("does not close"), std::string::npos);
  EXPECT_NE(recognise("{{ 'a }}").find("does not close"), std::string::npos);
  EXPECT_THROW(ChatTemplate::named("alpaca", "</s>"), UsageError);
  EXPECT_THROW(ChatTemplate::named("zephyr", ""), UsageError);
  EXPECT_THROW(ChatTemplate::named("zephyr", "</s>").render({{"tool", "x"}}), UsageError);
  EXPECT_THROW(ChatTemplate::named("chatml", "").render({{"", "x"}}), UsageError);
}

TEST(JinjaForm, WhiteSpaceGoesAsTransformersHasIt) {
  using Form = std::vector<std::string>;
  EXPECT_EQ(jinja_form("a\n  {% if x %}\n  b\n  {% endif %}\nc\n", ""),
            (Form{"emit \"a\\n\"", "if x", "emit \"  b\\n\"", "endif", "emit \"c\""}));
  EXPECT_EQ(jinja_form("a {%- if x -%} \n b {%- endif %} c", ""),
            (Form{"emit \"a\"", "if x", "emit \"b\"", "endif", "emit \" c\""}));
  EXPECT_EQ(jinja_form("{% if x %} {% endif %}", ""), (Form{"if x", "emit \" \"", "endif"}));
  EXPECT_EQ(jinja_form("{{ m[\"a\"]['b c'] ~ '%}' }}{# {{ #}", ""), (Form{"emit m.a [ \"b c\" ] \"%}\""}));
}

}  // namespace
}  // namespace molt::text
