// molt generate with several adapters: each record has the one it asks for, in one batch as alone; sums by weight;
// wrong names are one line. molt eval judges several as each alone.
#include "molt/base/json.h"
#include "tests/cli/tiny.h"

namespace molt::test {
namespace {

/// A LoRA on the tiny base, trained for a few large steps.
std::string lora_run(const std::string& name, int seed) {
  const std::string out = scratch().file(name);
  const std::string recipe = scratch().write(
      name + ".yaml",
      "model: " + tiny_model() + "\noutput_dir: " + out + "\nlearning_rate: 0.1\nseed: " + std::to_string(seed) +
          "\nmethod: {lora: {r: 4, lora_alpha: 16, target_modules: [in_proj, out_proj]}}\n" + kTinyData);
  const Ran ran = run_molt("train " + recipe);
  if (ran.code != 0) throw std::runtime_error(ran.err);
  return out + "/adapter";
}

std::vector<Json> lines_of(const std::string& text) {
  std::vector<Json> lines;
  std::stringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(Json::parse(line));
  return lines;
}

TEST(SeveralAdapters, AreJudgedAsEachAlone) {
  const std::string a = lora_run("judged_a", 1), b = lora_run("judged_b", 2);
  const std::string data = scratch().write("judged.jsonl",
                                           "{\"prompt\": \"turn on\", \"completion\": \" one\"}\n"
                                           "{\"prompt\": \"turn off\", \"completion\": \" two\"}\n");
  const std::string common =
      "eval --model " + tiny_model() + " --data " + data + " --metric exact_match --samples 1 data.cache_dir=$CACHE ";
  const auto judged = [&](const std::string& adapters) {
    const Ran ran = run_molt(common + adapters + " --json");
    EXPECT_EQ(ran.code, 0) << ran.err;
    return Json::parse(ran.out);
  };
  const Json both = judged("--adapter a=" + a + " --adapter b=" + b).at("adapters");
  ASSERT_EQ(both.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    const Json alone = judged("--adapter " + (i == 0 ? a : b));
    EXPECT_EQ(both[i].at("name"), i == 0 ? "a" : "b");
    for (const char* key : {"scores", "main", "samples"}) EXPECT_EQ(both[i].at(key), alone.at(key)) << key;
  }
  EXPECT_NE(both[0].at("scores"), both[1].at("scores"));
  const Ran table = run_molt(common + "--adapter a=" + a + " --adapter b=" + b);
  EXPECT_TRUE(has(table.out, "\nperplexity ")) << table.out;
  EXPECT_TRUE(has(table.out, "\n  b          ")) << table.out;
  EXPECT_TRUE(has(table.out, "\non              2 examples of the test data\n")) << table.out;
  const Ran by_name = run_molt("eval --adapter " + a + " --data " + data);
  ASSERT_EQ(by_name.code, 0) << "the adapter says what its base is: " << by_name.err;
  EXPECT_TRUE(has(by_name.out, " on " + tiny_model()));
  const Ran unnamed = run_molt(common + "--adapter " + a + " --adapter " + b);
  EXPECT_EQ(unnamed.code, 2);
  EXPECT_TRUE(has(unnamed.err, "give each a name"));
}

TEST(SeveralAdapters, EachRecordHasItsOwnInOneBatch) {
  const std::string a = lora_run("lora_a", 1), b = lora_run("lora_b", 2);
  const std::string records = scratch().write("asks.jsonl",
                                              "{\"prompt\": \"turn on\", \"adapter\": \"a\"}\n"
                                              "{\"prompt\": \"turn on\", \"adapter\": \"b\"}\n"
                                              "{\"prompt\": \"turn on\", \"adapter\": null}\n"
                                              "{\"prompt\": \"turn on\", \"adapter\": \"mix\"}\n"
                                              "{\"prompt\": \"turn on\"}\n");
  const std::string common =
      "generate --model " + tiny_model() + " --quiet --max-new-tokens 8 --compute f32 --base-dtype f32 ";
  const std::string mix = a + ":0.5+" + b + ":0.5";
  const Ran ran =
      run_molt(common + "--adapter a=" + a + " --adapter b=" + b + " --adapter mix=" + mix + " --prompts " + records);
  ASSERT_EQ(ran.code, 0) << ran.err;
  const std::vector<Json> lines = lines_of(ran.out);
  ASSERT_EQ(lines.size(), 5u);
  const char* names[] = {"a", "b", "none", "mix", "a"};
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(lines[i]["adapter"], names[i]);
  const auto alone = [&](const std::string& adapter) {
    const Ran one = run_molt(common + adapter + " --prompt 'turn on' --json");
    EXPECT_EQ(one.code, 0) << one.err;
    return Json::parse(one.out)["completion"];
  };
  EXPECT_EQ(lines[0]["completion"], alone("--adapter " + a));
  EXPECT_EQ(lines[1]["completion"], alone("--adapter " + b));
  EXPECT_EQ(lines[2]["completion"], alone(""));
  EXPECT_EQ(lines[3]["completion"], alone("--adapter " + mix));
  EXPECT_EQ(lines[1]["completion"], alone("--adapter a=" + a + " --adapter b=" + b + " --use b"));
  EXPECT_EQ(lines[2]["completion"], alone("--adapter a=" + a + " --use none"));
  EXPECT_EQ(lines[4]["completion"], lines[0]["completion"]);
  EXPECT_NE(lines[0]["completion"], lines[2]["completion"]);

  for (const auto& [arguments, says] :
       {std::pair<std::string, std::string>{"--adapter a=" + a + " --prompts " + records, "asks.jsonl:2"},
        {"--adapter a=" + a + " --use c --prompt x", "no adapter is called 'c'"},
        {"--use a --prompt x", "none was given"},
        {"--adapter " + a + " --adapter " + b + " --prompt x", "give each a name"},
        {"--adapter " + a + ":half --prompt x", ":half"},
        {"--adapter " + tiny_adapter_run() + "/adapter:0.5 --prompt x", "sdt"}}) {
    const Ran bad = run_molt(common + arguments);
    EXPECT_EQ(bad.code, 2) << arguments;
    EXPECT_EQ(line_count(bad.err), 1) << bad.err;
    EXPECT_TRUE(has(bad.err, says));
  }
  // A merge of the sum is that sum.
  const std::string merged = scratch().file("merged_sum");
  const Ran merge = run_molt("merge --model " + tiny_model() + " --adapter " + mix + " --dtype f32 --out " + merged);
  ASSERT_EQ(merge.code, 0) << merge.err;
  const Ran of_merged =
      run_molt("generate --model " + merged + " --quiet --max-new-tokens 8 --prompt 'turn on' --json");
  EXPECT_EQ(Json::parse(of_merged.out)["completion"], lines[3]["completion"]);
}

}  // namespace
}  // namespace molt::test
