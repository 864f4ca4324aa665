// molt search: the two steps, on a tiny model; what a second call and a recipe with slips do.
#include <filesystem>

#include "molt/base/file.h"
#include "molt/base/json.h"
#include "tests/cli/tiny.h"

namespace molt::test {
namespace {

namespace fs = std::filesystem;

std::string recipe_with(const std::string& name, const std::string& search) {
  return scratch().write(name + ".yaml", "model: " + tiny_model() + "\noutput_dir: " + scratch().file(name) + "\n" +
                                             kTinyData + "learning_rate: 0.02\n" + search);
}

// Two that stand at one place cannot be combined; the third is there to be added.
const std::string kSearch =
    "search:\n  methods:\n"
    "    - {name: narrow, method: {lora: {r: 1, target_modules: [in_proj]}}, try: {lora.r: [2, 1], lora.learning_rate: "
    "[0.03]}}\n"
    "    - {name: again, method: {lora: {r: 2, target_modules: [in_proj]}}}\n"
    "    - {name: norms, method: ln_tuning, try: {ln_tuning.target_modules: [[norm_f.weight]]}}\n"
    "  try: {max_steps: [4]}\n";

double loss_of(const fs::path& trial) {
  return read_json_file((trial / "result.json").string()).at("scores").at("loss").get<double>();
}

TEST(SearchVerb, FindsACombinationThenItsSettings) {
  const std::string recipe = recipe_with("search", kSearch);
  const Ran ran = run_molt("search " + recipe);
  ASSERT_EQ(ran.code, 0) << ran.err;
  const fs::path out = scratch().file("search");
  double best = 1e9;
  int trials = 0;
  for (const auto& entry : fs::directory_iterator(out)) {
    if (!fs::exists(entry.path() / "result.json")) continue;
    best = std::min(best, loss_of(entry.path()));
    ++trials;
  }
  EXPECT_GE(trials, 3 + 2);  // each alone, then more
  EXPECT_TRUE(fs::exists(out / "report.html"));
  // The winner is the best of all trials, and its recipe gives the same again.
  const std::string best_yaml = read_file((out / "best.yaml").string());
  EXPECT_TRUE(has(ran.out, "recipe: " + (out / "best.yaml").string()));
  const Ran trained = run_molt("train " + (out / "best.yaml").string());
  ASSERT_EQ(trained.code, 0) << trained.err;
  EXPECT_DOUBLE_EQ(loss_of(out / "best"), best) << best_yaml;

  // Everything is there: a second call runs nothing and says the same.
  fs::remove(out / "best.yaml");
  const Ran again = run_molt("search " + recipe);
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(again.err.find("train "), std::string::npos) << again.err;
  EXPECT_EQ(read_file((out / "best.yaml").string()), best_yaml);

  // One trial is missing, as after an interruption: that one alone is made, with the same result.
  fs::remove_all(out / "trial-02");
  const Ran resumed = run_molt("search " + recipe);
  EXPECT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_EQ(read_file((out / "best.yaml").string()), best_yaml);

  // Another search does not take over what lies there.
  const Ran other = run_molt("search " + recipe + " seed=7");
  EXPECT_EQ(other.code, 2);
  EXPECT_TRUE(has(other.err, "trial-01"));
}

TEST(SearchVerb, TestDataIsNotLookedAt) {
  const std::string recipe = recipe_with("search_blind", "search: {methods: [{name: norms, method: ln_tuning}]}\n");
  const Ran ran = run_molt("search " + recipe + " data.test=nowhere.jsonl");
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(has(read_file(scratch().file("search_blind") + "/best.yaml"), "nowhere.jsonl"));
}

TEST(SearchVerb, SlipsAreFoundBeforeAnythingRuns) {
  auto says = [](const std::string& search, const std::string& more = "") {
    const Ran ran = run_molt("search " + recipe_with("slip", search) + more);
    EXPECT_EQ(ran.code, 2) << search;
    EXPECT_EQ(line_count(ran.err), 1) << ran.err;
    EXPECT_FALSE(fs::exists(scratch().file("slip"))) << search;
    return ran.err;
  };
  EXPECT_TRUE(has(says(""), "search is missing"));
  EXPECT_TRUE(has(says("search: {methods: []}\n"), "no candidate"));
  EXPECT_TRUE(has(says("search: {method: []}\n"), "search"));
  EXPECT_TRUE(has(says("search: {methods: [{name: a, methd: lora}]}\n"), "name and method"));
  EXPECT_TRUE(has(says("search: {methods: [{name: a, method: lora, tries: 1}]}\n"), "tries"));
  EXPECT_TRUE(has(says("search: {methods: [{name: a, method: lora}, {name: a, method: lora}]}\n"), "twice"));
  EXPECT_TRUE(has(says("search: {methods: [{name: a, method: lara}]}\n"), "lara"));
  EXPECT_TRUE(has(says("search: {methods: [{name: a, method: lora, try: {r: [2]}}]}\n"), "lora.r"));
  EXPECT_TRUE(has(says("search: {methods: [{name: a, method: lora, try: {lora.rank: [2]}}]}\n"), "rank"));
  EXPECT_TRUE(has(says("search: {methods: [{name: a, method: lora, try: {lora.r: 2}}]}\n"), "list"));
  EXPECT_TRUE(has(says("search: {methods: [{name: a, method: lora, try: {lora.r: [2, 0]}}]}\n"), "at least 1"));
  EXPECT_TRUE(has(says("search: {methods: [{name: a, method: lora}], try: {max_stps: [2]}}\n"), "max_stps"));
  EXPECT_TRUE(has(says(kSearch, " data.validation=[]"), "validation"));
}

}  // namespace
}  // namespace molt::test
