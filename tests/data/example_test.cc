// Examples from records, their token ids and labels, and the rules for length.
#include "molt/data/example.h"

#include "molt/base/log.h"
#include "molt/data/encode.h"
#include "molt/data/encoder.h"
#include "molt/data/example_set.h"
#include "molt/text/chat_template.h"
#include "tests/data/helpers.h"

namespace molt::data {
namespace {

using testing::expect_usage_error;
using testing::TempDir;
using testing::toy_encoder;
using Ids = std::vector<int32_t>;

TEST(Examples, LayoutFollowsTheFirstRecord) {
  TempDir dir;
  DataConfig c;
  auto e = read_examples(c, {dir.file("a.jsonl", "{\"prompt\": \"p\", \"completion\": \"c\"}")});
  EXPECT_EQ(e[0].layout, Layout::kCompletion);
  EXPECT_EQ(e[0].prompt + "|" + e[0].completion, "p|c");
  e = read_examples(c, {dir.file("b.jsonl", "{\"text\": \"t\"}")});
  EXPECT_EQ(e[0].layout, Layout::kText);
  EXPECT_EQ(e[0].completion, "t");
  e = read_examples(c, {dir.file("c.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}]}")});
  EXPECT_EQ(e[0].layout, Layout::kChat);
}

TEST(Examples, ReadsChatsOfBothSpellings) {
  TempDir dir;
  DataConfig c;
  auto e = read_examples(c, {dir.file("a.jsonl",
                                      "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": "
                                      "\"assistant\", \"content\": [{\"type\": \"text\", \"text\": \"a\"}]}]}")});
  ASSERT_EQ(e[0].messages.size(), 2u);
  EXPECT_EQ(e[0].messages[1].content, "a");
  e = read_examples(c, {dir.file("b.jsonl",
                                 "{\"conversations\": [{\"from\": \"human\", \"value\": \"q\"}, {\"from\": "
                                 "\"gpt\", \"value\": \"a\"}]}")});
  EXPECT_EQ(e[0].messages[0].role, "user");
  EXPECT_EQ(e[0].messages[1].role, "assistant");
  const auto read = [&](const std::string& bytes) {
    return [&, bytes] { read_examples(c, {dir.file("c.jsonl", bytes)}); };
  };
  expect_usage_error(read("{\"messages\": \"hello\"}"), {"c.jsonl:1: ", "list of messages", "string"});
  expect_usage_error(read("{\"messages\": []}"), {"c.jsonl:1: ", "empty"});
  expect_usage_error(read("{\"messages\": [{\"role\": \"user\"}]}"), {"c.jsonl:1: message 1", "role and content"});
  expect_usage_error(read("{\"messages\": [{\"role\": \"user\", \"content\": null}]}"),
                     {"c.jsonl:1: message 1", "null"});
}

TEST(Examples, WordsAroundThePromptMayNameALineEnd) {
  TempDir dir;
  DataConfig c;
  c.separator = "\\n#", c.prefix = "b\\n";
  const auto e = read_examples(c, {dir.file("a.jsonl", "{\"prompt\": \"a\", \"completion\": \"c\"}")});
  EXPECT_EQ(e[0].prompt, "a\n#");
  const Encoder encoder = toy_encoder();
  DataConfig real = c;
  real.prefix = "b\n";
  EXPECT_EQ(encode_example(e[0], c, encoder).ids, encode_example(e[0], real, encoder).ids);
}

TEST(Examples, RolesAreSpeltAsEverybodyDoes) {
  TempDir dir;
  DataConfig c;
  const auto chat = [&](const std::string& role) {
    return [&, role] {
      read_examples(c, {dir.file("a.jsonl", "{\"messages\": [{\"role\": \"" + role + "\", \"content\": \"q\"}]}")});
    };
  };
  for (const char* role : {"Assistant", "asistant", "User", "GPT"}) expect_usage_error(chat(role), {role, "expected"});
  for (const char* role : {"assistant", "tool", "user1", "developer"}) chat(role)();
}

TEST(Examples, SayWhatTheyMiss) {
  TempDir dir;
  DataConfig c;
  expect_usage_error([&] { read_examples(c, {dir.file("a.jsonl", "{\"question\": \"q\", \"answer\": \"a\"}")}); },
                     {"a.jsonl:1: ", "[answer, question]", "data.prompt"});
  expect_usage_error(
      [&] {
        read_examples(c, {dir.file("b.jsonl", "{\"prompt\": \"p\", \"completion\": \"c\"}\n{\"prompt\": \"p\"}")});
      },
      {"b.jsonl:2: ", "\"completion\""});
  expect_usage_error([&] { read_examples(c, {dir.file("c.jsonl", "\n\n")}); }, {"c.jsonl: ", "at least one example"});
  expect_usage_error([&] { read_examples(c, {dir.file("d.csv", "prompt,completion\n")}); },
                     {"d.csv: ", "at least one"});
  expect_usage_error([&] { read_examples(c, {dir.file("e.parquet", "PAR1")}); }, {"e.parquet: ", "data.format"});
}

TEST(Examples, EachGivesOneExamplePerItem) {
  TempDir dir;
  DataConfig c;
  c.each = "refs", c.prompt = "{q}", c.completion = "{refs.text}";
  const auto path = dir.file("a.jsonl",
                             "{\"q\": \"1\", \"refs\": [{\"text\": \"a\"}, {\"text\": \"b\"}]}\n"
                             "{\"q\": \"2\", \"refs\": [{\"text\": \"c\"}]}\n"
                             "{\"q\": \"1\", \"refs\": [{\"text\": \"d\"}]}");
  const auto e = read_examples(c, {path});
  ASSERT_EQ(e.size(), 4u);
  EXPECT_EQ(e[1].prompt + e[1].completion, "1b");
  const auto grouped = group_by_prompt(e);
  ASSERT_EQ(grouped.size(), 2u);
  EXPECT_EQ(grouped[0].completion, "a");
  EXPECT_EQ(grouped[0].references, (std::vector<std::string>{"b", "d"}));
  c.each = std::string("q");
  expect_usage_error([&] { read_examples(c, {path}); }, {"a.jsonl:1: ", "list", "\"q\"", "string"});
}

TEST(Examples, MapRenamesCompletionsAndRefusesUnknownOnes) {
  TempDir dir;
  DataConfig c;
  c.prompt = "{s}", c.completion = "{l}", c.map_completion = {"entailment=0", "not=1=x"};
  const auto e = read_examples(c, {dir.file("a.tsv", "s\tl\nx\tentailment\ny\tnot\n")});
  EXPECT_EQ(e[0].completion, "0");
  EXPECT_EQ(e[1].completion, "1=x");
  expect_usage_error([&] { read_examples(c, {dir.file("b.tsv", "s\tl\nx\tmaybe\n")}); }, {"b.tsv:2: ", "\"maybe\""});
}

TEST(Encode, PiecesNeverMergeAndOnlyTheCompletionIsLearnt) {
  DataConfig c;
  c.prefix = "xa";
  const Encoder toy = toy_encoder();
  Example e;
  e.prompt = "ba", e.completion = "bab";
  const TokenExample t = encode_example(e, c, toy);
  EXPECT_EQ(t.ids, (Ids{'x', 'a', 'b', 'a', 'b', 256, 257}));  // "a|b" at both seams would be 256 if pieces were joined
  EXPECT_EQ(t.learnt, (std::vector<uint8_t>{0, 0, 0, 0, 1, 1, 1}));
  EXPECT_EQ(t.labelled(), 3);
  c.append_eos = false;
  EXPECT_EQ(encode_example(e, c, toy).ids.back(), 256);
}

TEST(Encode, TextIsLearntWholeButNotTheStart) {
  DataConfig c;
  Encoder toy = toy_encoder();
  toy.start = {250};
  Example e;
  e.layout = Layout::kText, e.completion = "hi";
  const TokenExample t = encode_example(e, c, toy);
  EXPECT_EQ(t.ids, (Ids{250, 'h', 'i', 257}));
  EXPECT_EQ(t.labelled(), 3);
}

TEST(Encode, ChatsLearnWhatTheTemplateMarks) {
  DataConfig c;
  Encoder toy = toy_encoder();
  toy.start = {250};  // a chat template writes its own
  Example e;
  e.layout = Layout::kChat, e.where = "f:9";
  e.messages = {{"user", "q"}, {"assistant", "a"}, {"user", "r"}, {"assistant", "b"}};
  expect_usage_error([&] { encode_example(e, c, toy); }, {"f:9: ", "chat template"});
  toy.render_chat = [](const std::vector<Message>& messages, bool ask) {
    std::vector<ChatPiece> pieces;
    for (const auto& m : messages) {
      pieces.push_back({m.role.substr(0, 1) + ":", false});
      pieces.push_back({m.content + "\n", m.role == "assistant"});
    }
    if (ask) pieces.push_back({"a:", false});
    return pieces;
  };
  const TokenExample t = encode_example(e, c, toy);
  std::string read, learnt;
  for (size_t i = 0; i < t.ids.size(); ++i) (t.learnt[i] ? learnt : read) += static_cast<char>(t.ids[i]);
  EXPECT_EQ(learnt, "a\nb\n");
  EXPECT_EQ(read, "u:q\na:u:r\na:");
  const EvalExample q = encode_question(e, c, toy);
  EXPECT_EQ(q.prompt_text, "u:q\na:a\nu:r\na:");
  EXPECT_EQ(q.references, std::vector<std::string>{"b"});
  e.messages = {{"user", "q"}};
  expect_usage_error([&] { encode_question(e, c, toy); }, {"f:9: ", "assistant"});
}

TEST(Encode, ChatTemplatesOfCheckpointsAreFound) {
  TempDir dir;
  DataConfig c;
  Encoder toy = toy_encoder();
  Example e;
  e.layout = Layout::kChat, e.where = "f:9";
  e.messages = {{"user", "q"}, {"assistant", "a"}};
  auto learnt = [&] {
    const TokenExample t = encode_example(e, c, toy);
    std::string text;
    for (size_t i = 0; i < t.ids.size(); ++i)
      if (t.learnt[i]) text += static_cast<char>(t.ids[i]);
    return text;
  };
  toy.render_chat = chat_renderer("");
  EXPECT_EQ(learnt(), "a<|im_end|>");
  dir.file("tokenizer_config.json",
           Json{{"chat_template", text::ChatTemplate::named("zephyr", "</s>").jinja()}, {"eos_token", "</s>"}}.dump());
  toy.render_chat = chat_renderer(dir.path());
  EXPECT_EQ(learnt(), "a</s>");
  e.messages[0].role = "tool";
  expect_usage_error(learnt, {"f:9: ", "tool"});
  e.messages[0].role = "user";
  dir.file("tokenizer_config.json", Json{{"chat_template", "{{ raise_exception('no') }}"}}.dump());
  toy.render_chat = chat_renderer(dir.path());
  expect_usage_error(learnt, {"f:9: ", "tokenizer_config.json"});
}

TEST(Encode, QuestionsHoldTheSameIdsAsTraining) {
  DataConfig c;
  c.prefix = "Tell: ";
  const Encoder toy = toy_encoder();
  Example e;
  e.prompt = "ab?", e.completion = "yes", e.references = {"yeah"};
  const EvalExample q = encode_question(e, c, toy);
  const TokenExample t = encode_example(e, c, toy);
  EXPECT_EQ(q.prompt, Ids(t.ids.begin(), t.ids.begin() + static_cast<int64_t>(q.prompt.size())));
  EXPECT_EQ(t.learnt[q.prompt.size()], 1);
  EXPECT_EQ(q.references, (std::vector<std::string>{"yes", "yeah"}));
  EXPECT_EQ(q.prompt_text, "ab?");
}

TEST(Encode, TruncationKeepsPrefixAndCompletion) {
  Example e;
  auto cut = [&](const std::string& prefix, const std::string& prompt, const std::string& completion, int64_t length) {
    DataConfig c;
    c.prefix = prefix, c.append_eos = false;
    e.prompt = prompt, e.completion = completion;
    TokenExample t = encode_example(e, c, toy_encoder());
    truncate(t, e, length, prefix_length(c, toy_encoder()));
    EXPECT_EQ(t.ids.size(), t.learnt.size());
    std::string text;
    for (size_t i = 0; i < t.ids.size(); ++i)
      text += static_cast<char>(t.learnt[i] ? std::toupper(t.ids[i]) : t.ids[i]);
    return text;
  };
  EXPECT_EQ(cut("p:", "12345", "xyz", 10), "p:12345XYZ");
  EXPECT_EQ(cut("p:", "12345", "xyz", 7), "p:45XYZ");
  EXPECT_EQ(cut("p:", "12345", "xyz", 5), "p:XYZ");
  EXPECT_EQ(cut("p:", "12345", "xyz", 4), "p:XY");
  e.layout = Layout::kText;
  EXPECT_EQ(cut("", "", "wxyz", 3), "WXY");
}

TEST(ExampleSet, LengthPoliciesCountAndSay) {
  TempDir dir;
  DataConfig c;
  c.append_eos = false, c.max_length = 4;
  const auto path = dir.file("a.jsonl",
                             "{\"prompt\": \"12\", \"completion\": \"34\"}\n{\"prompt\": \"123\", \"completion\": "
                             "\"456\"}\n{\"prompt\": \"\", \"completion\": \"12\"}");
  const auto examples = read_examples(c, {path});
  const Encoder toy = toy_encoder();
  expect_usage_error([&] { ExampleSet(examples, c, toy); }, {"a.jsonl:2: ", "6 tokens", "max_length (4)"});
  std::vector<std::string> said;
  const LogSink before = set_log_sink([&](LogLevel, const std::string& m) { said.push_back(m); });
  c.on_long = "drop";
  const ExampleSet dropped(examples, c, toy);
  c.on_long = "truncate";
  const ExampleSet truncated(examples, c, toy);
  set_log_sink(before);
  EXPECT_EQ(dropped.size(), 2);
  EXPECT_EQ(dropped.report().dropped, 1);
  EXPECT_EQ(dropped.report().longest, 6);
  EXPECT_EQ(dropped.report().labelled, 2 + 1);
  EXPECT_EQ(truncated.size(), 3);
  EXPECT_EQ(truncated.report().truncated, 1);
  EXPECT_EQ(truncated.length(1), 4);
  ASSERT_EQ(said.size(), 2u);
  EXPECT_NE(said[0].find("left out 1 of 3"), std::string::npos) << said[0];
  EXPECT_NE(said[1].find("cut 1 of 3"), std::string::npos) << said[1];
}

TEST(ExampleSet, RefusesExamplesWithNothingToLearn) {
  TempDir dir;
  DataConfig c;
  c.append_eos = false;
  auto make = [&](const std::string& line) {
    return [&, line] { ExampleSet(read_examples(c, {dir.file("a.jsonl", line)}), c, toy_encoder()); };
  };
  expect_usage_error(make("{\"prompt\": \"12\", \"completion\": \"\"}"), {"a.jsonl:1: ", "completion is empty"});
  expect_usage_error(make("{\"prompt\": \"\", \"completion\": \"1\"}"), {"a.jsonl:1: ", "1 tokens"});
  expect_usage_error(make("{\"text\": \"\"}"), {"a.jsonl:1: ", "0 tokens"});
  c.append_eos = true;
  EXPECT_EQ(testing::usage_message(make("{\"prompt\": \"\", \"completion\": \"1\"}")), "");
  Encoder no_eos = toy_encoder();
  no_eos.eos = -1;
  expect_usage_error([&] { ExampleSet(read_examples(c, {dir.file("b.jsonl", "{\"text\": \"x\"}")}), c, no_eos); },
                     {"b.jsonl:1: ", "append_eos"});
}

TEST(ExampleSet, ThreadsChangeNothing) {
  std::vector<Example> examples(9001);
  for (size_t i = 0; i < examples.size(); ++i) {
    examples[i].prompt = "number " + std::to_string(i);
    examples[i].completion = std::to_string(i * i);
  }
  const DataConfig c;
  const ExampleSet one(examples, c, toy_encoder(), 1), three(examples, c, toy_encoder(), 3);
  EXPECT_EQ(one.fingerprint(), three.fingerprint());
  examples[8000].completion[0] ^= 1;
  EXPECT_NE(one.fingerprint(), ExampleSet(examples, c, toy_encoder(), 3).fingerprint());
}

TEST(Labels, AreTheConfigsOrThoseSeen) {
  DataConfig c;
  std::vector<Example> examples(4);
  examples[0].completion = "1", examples[1].completion = "0", examples[2].completion = "1",
  examples[3].completion = "2";
  LabelSet labels = make_labels(examples, c, toy_encoder());
  EXPECT_EQ(labels.names, (std::vector<std::string>{"1", "0", "2"}));
  EXPECT_EQ(labels.ids[1], Ids{'0'});
  expect_usage_error([&] { make_labels(examples, c, toy_encoder(), 2); }, {"more than 2"});
  c.labels = {"yes", "yes"};
  expect_usage_error([&] { make_labels(examples, c, toy_encoder()); }, {"same tokens"});
}

TEST(Choose, IsASortedSampleThatTheSeedDecides) {
  EXPECT_EQ(choose(5, 3, false, 1), (std::vector<size_t>{0, 1, 2}));
  EXPECT_EQ(choose(2, 3, true, 1), (std::vector<size_t>{0, 1}));
  const auto a = choose(1000, 100, true, 1), b = choose(1000, 100, true, 2);
  EXPECT_EQ(a, choose(1000, 100, true, 1));
  EXPECT_NE(a, b);
  EXPECT_TRUE(std::is_sorted(a.begin(), a.end()));
  EXPECT_TRUE(std::adjacent_find(a.begin(), a.end()) == a.end());
}

}  // namespace
}  // namespace molt::data
