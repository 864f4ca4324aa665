// What changes or vanishes under a run: data, base model, tokenizer, recipe, its own files; and two runs at once.
#include "molt/base/json.h"
#include "tests/robustness/place.h"

namespace molt::test {
namespace {

/// A run of 12 steps, stopped by taking away its later checkpoint: what --resume finds is step 8.
class Change : public ::testing::Test {
 protected:
  const Place& place = Place::the();
  const std::string run = place / "half", kTrain = "train @/good_copy.yaml output_dir=@/half ";

  void SetUp() override {
    place.shell(
        "cp data.jsonl data_copy.jsonl && cp -r base base_copy && "
        "sed 's/data.jsonl/data_copy.jsonl/; s#/base$#/base_copy#' good.yaml > good_copy.yaml");
    place.works(kTrain);
    fs::remove_all(run + "/checkpoints/step-000000012");
    fs::remove_all(run + "/adapter");
    before_ = contents();
  }
  void TearDown() override { place.shell("rm -rf half half2 data_copy.jsonl base_copy good_copy.yaml"); }

  /// The run's checkpoint, which nothing may touch.
  std::string contents() const {
    return read_file(run + "/checkpoints/step-000000008/tensors.safetensors") +
           read_file(run + "/checkpoints/step-000000008/state.json");
  }
  void refused(const std::vector<std::string>& says, const std::string& more = "") {
    expect_line(place.molt(kTrain + more + " --resume"), 2, says);
    EXPECT_EQ(contents(), before_);
    EXPECT_FALSE(fs::exists(run + "/adapter"));
  }
  std::string before_;
};

TEST_F(Change, NothingChangedGoesOn) {
  place.works(kTrain + "--resume");
  EXPECT_EQ(read_file(run + "/adapter/adapter_model.safetensors"),
            read_file(place / "run/adapter/adapter_model.safetensors"));
}

TEST_F(Change, MemoryThatChangedGoesOn) {
  // Who ran out of memory goes on with less.
  place.works(kTrain + "recompute=true max_memory=1GiB --resume");
  EXPECT_EQ(read_file(run + "/adapter/adapter_model.safetensors"),
            read_file(place / "run/adapter/adapter_model.safetensors"));
  EXPECT_EQ(read_json_file(run + "/recipe.yaml").at("recompute"), false);
  place.works(kTrain + "--resume");  // as it was begun
}

TEST_F(Change, DataThatVanished) {
  place.shell("rm data_copy.jsonl");
  refused({"data_copy.jsonl", "No such file"});
}

TEST_F(Change, DataThatChanged) {
  place.shell("sed -i '3s/\"completion\": \" /\"completion\": \" x/' data_copy.jsonl");
  refused({"half", "data"});
}

TEST_F(Change, DataThatGrew) {
  place.shell("tail -1 data.jsonl >> data_copy.jsonl");
  refused({"half", "data"});
}

TEST_F(Change, DataThatWasCutShort) {
  place.shell("truncate -s 500 data_copy.jsonl");
  refused({"data_copy.jsonl:"});
}

TEST_F(Change, ValidationDataThatChanged) {
  place.shell("head -8 data.jsonl > half_valid.jsonl");
  const std::string train =
      "train @/good_copy.yaml output_dir=@/half2 data.validation_split=0 data.validation=@/half_valid.jsonl ";
  place.works(train);
  fs::remove_all(place / "half2/checkpoints/step-000000012");
  const auto log = read_file(place / "half2/metrics.jsonl");
  for (const char* change : {"sed -i '3s/\"completion\": \" /\"completion\": \" x/' half_valid.jsonl",
                             "head -7 data.jsonl > half_valid.jsonl", "head -9 data.jsonl > half_valid.jsonl"}) {
    SCOPED_TRACE(change);
    place.shell(change);
    expect_line(place.molt(train + "--resume"), 2, {"half2", "validation data"});
    EXPECT_EQ(read_file(place / "half2/metrics.jsonl"), log);
    place.shell("head -8 data.jsonl > half_valid.jsonl");
  }
  place.works(train + "--resume");
  place.shell("rm half_valid.jsonl");
}

TEST_F(Change, ValidationPartOfTheDataThatChanged) {
  // Whichever part of the file a line falls in, another text in it is noticed.
  for (int line = 1; line <= 40; line += 3) {
    SCOPED_TRACE(line);
    place.shell(str("cp data.jsonl data_copy.jsonl && sed -i '", line,
                    "s/\"completion\": \" /\"completion\": \" x/' data_copy.jsonl"));
    refused({"half", "data"});
  }
}

TEST_F(Change, DataThatChangedBetweenVariants) {
  place.write("compare.yaml", read_file(place / "good_copy.yaml") +
                                  "compare:\n  - {name: plain, method: none}\n"
                                  "  - {name: one, method: {lora: {r: 1, target_modules: [in_proj]}}}\n"
                                  "  - {name: two, method: {lora: {r: 2, target_modules: [in_proj]}}}\n");
  const std::string compare = "compare @/compare.yaml output_dir=@/half2 ";
  const Ran first = place.molt(compare + "--only plain --only one");
  ASSERT_EQ(first.code, 0) << first.err;
  // With the same data the others stand beside them; with other data they do not.
  place.works(compare);
  place.shell("rm -r half2/two && tail -1 data.jsonl >> data_copy.jsonl");
  expect_line(place.molt(compare), 2, {"half2/two", "other training data than", "half2/plain", "remove the older"});
  place.shell("rm -r half2/plain half2/one");
  place.works(compare);
  place.shell("rm compare.yaml");
}

TEST_F(Change, AVariantMayGoOnFromAnother) {
  // Its base is not there when the comparison begins. Done, neither bases nor as much memory are asked for again.
  place.write("compare.yaml", read_file(place / "good_copy.yaml") +
                                  "compare:\n  - {name: one, method: full}\n"
                                  "  - {name: two, model: @/half2/one/model, method: {lora: {r: 2}}}\n");
  const std::string compare = "compare @/compare.yaml output_dir=@/half2 ";
  place.works(compare);
  place.shell("mv base_copy away");
  place.works(compare + "max_memory=2GiB");
  place.shell("mv away base_copy && rm compare.yaml");
}

TEST_F(Change, BaseThatVanished) {
  place.shell("rm -r base_copy");
  refused({"base_copy"});
}

TEST_F(Change, BaseThatChanged) {
  place.shell(
      "printf '\\001\\002' | dd of=base_copy/model.safetensors bs=1 conv=notrunc status=none "
      "seek=$(($(stat -c %s base_copy/model.safetensors) - 4000))");
  refused({"half", "another base model"});
}

TEST_F(Change, BaseWithANan) {
  place.shell(
      "printf '\\000\\000\\300\\177' | dd of=base_copy/model.safetensors bs=1 conv=notrunc status=none "
      "seek=$(($(stat -c %s base_copy/model.safetensors) - 4000))");
  refused({"base_copy", "backbone.", "not finite"});
}

TEST_F(Change, TokenizerThatChanged) {
  place.shell("sed -i 's/\"o\":/\"%%\":/; s/\"t\":/\"o\":/; s/\"%%\":/\"t\":/' base_copy/tokenizer.json");
  expect_line(place.molt(kTrain + "--resume"), 2, {});
}

TEST_F(Change, RecipeThatChanged) { refused({"learning_rate is 0.5"}, "learning_rate=0.5"); }

TEST_F(Change, CheckpointCutShort) {
  // A newer checkpoint than the good one, damaged: it is named, and without it the run goes on to the same bits.
  place.shell(
      "cp -r half/checkpoints/step-000000008 half/checkpoints/step-000000012 && "
      "truncate -s 1000 half/checkpoints/step-000000012/tensors.safetensors");
  refused({"step-000000012", "remove"});
  place.shell("rm -r half/checkpoints/step-000000012");
  place.works(kTrain + "--resume");
  EXPECT_EQ(read_file(run + "/adapter/adapter_model.safetensors"),
            read_file(place / "run/adapter/adapter_model.safetensors"));
}

TEST_F(Change, CheckpointFilesOfEveryWrongKind) {
  const std::string state = run + "/checkpoints/step-000000008/state.json", sound = read_file(state);
  for (const char* wrong : {"", "{", "[]", "null", "{}", R"({"format": 1})", R"({"format": 2})"}) {
    SCOPED_TRACE(wrong);
    std::ofstream(state) << wrong;
    expect_line(place.molt(kTrain + "--resume"), 2, {"step-000000008", "remove"});
  }
  for (const auto& [key, value] :
       std::vector<std::pair<const char*, Json>>{{"phase", -1},
                                                 {"phase", 7},
                                                 {"phase_step", -5},
                                                 {"phase_step", 100000},
                                                 {"phase_step", "x"},
                                                 {"stream", nullptr},
                                                 {"stream", Json{{"epoch", -1}, {"batch", 0}}},
                                                 {"tokens", "many"}}) {
    SCOPED_TRACE(str(key, " ", value.dump()));
    Json changed = Json::parse(sound);
    changed[key] = value;
    std::ofstream(state) << changed.dump();
    expect_line(place.molt(kTrain + "--resume"), 2, {"half"});
  }
}

TEST_F(Change, UnfinishedWritesAreNotSeenAndGo) {
  place.shell(
      "mkdir -p half/checkpoints/step-000000012.unfinished half/adapter/.adapter.tmp.123 && "
      "echo x > half/checkpoints/step-000000012.unfinished/state.json && echo x > half/recipe.yaml.tmp.99 && "
      "echo x > half/adapter/.adapter.tmp.123/adapter_config.json");
  place.works(kTrain + "--resume");
  EXPECT_EQ(names_below(run), names_below(place / "run"));
}

TEST_F(Change, KilledWhileOldCheckpointsWereRemoved) {
  // After the last checkpoint was written: one too many, or one half removed. No further checkpoint comes to tidy up.
  place.works(kTrain + "--resume");
  const auto sound = names_below(run);
  for (const char* left :
       {"cp -r half/checkpoints/step-000000008 half/checkpoints/step-000000004",
        "mkdir half/checkpoints/step-000000004.unfinished && "
        "cp half/checkpoints/step-000000008/state.json half/checkpoints/step-000000004.unfinished"}) {
    SCOPED_TRACE(left);
    place.shell(left);
    place.works(kTrain + "--resume");
    EXPECT_EQ(names_below(run), sound);
  }
}

TEST_F(Change, LogCutInTheMiddleOfALine) {
  place.shell("truncate -s -20 half/metrics.jsonl");
  place.works(kTrain + "--resume");
}

TEST_F(Change, LogOfAnotherKind) {
  place.shell("echo 'no json' > half/metrics.jsonl");
  refused({"metrics.jsonl:1"});
}

TEST_F(Change, TwoRunsInOneDirectory) {
  const Ran ran = place.script(
      "$MOLT train good_copy.yaml output_dir=half2 max_steps=100000 2>/dev/null & pid=$!\n"
      "for i in $(seq 200); do [ -e half2/recipe.yaml ] && break; sleep 0.05; done\n"
      "$MOLT train good_copy.yaml output_dir=half2 max_steps=100000 --resume; code=$?\n"
      "kill -9 $pid; exit $code");
  expect_line(ran, 2, {"half2", "another process is writing to this run"});
}

TEST(Start, AProcessKilledBeforeTheRunBeganLeavesAnEmptyDirectory) {
  const Place& place = Place::the();
  // What is there after the lock, the mark, and each half-written file.
  for (const char* left : {"touch early/.lock", "touch early/.lock early/run.json.tmp.77",
                           "touch early/.lock && echo '{\"format\": 1}' > early/run.json",
                           "mkdir early/checkpoints && echo '{\"format\": 1}' > early/run.json && touch "
                           "early/recipe.yaml.tmp.12"}) {
    SCOPED_TRACE(left);
    place.shell(std::string("rm -rf early && mkdir early && ") + left);
    place.works("train @/good.yaml output_dir=@/early --resume");
    EXPECT_EQ(names_below(place / "early"), names_below(place / "run"));
  }
  place.shell("rm -rf early");
}

TEST(Nan, StopsWithTheStepAndTheOpAndKeepsTheCheckpoint) {
  const Place& place = Place::the();
  const std::string train =
      "train @/good.yaml output_dir=@/nan learning_rate=1e12 lr_scheduler_type=constant save_steps=1 max_grad_norm=0 ";
  const Ran ran = place.molt(train);
  expect_line(ran, 1,
              {"step 2: what ", " gives in layer 0 is not finite", "keeps the checkpoint of step 1", "learning_rate"});
  // What is kept can be gone on from, to the same end.
  EXPECT_EQ(
      names_below(place / "nan/checkpoints"),
      (std::set<std::string>{"step-000000001", "step-000000001/state.json", "step-000000001/tensors.safetensors"}));
  expect_line(place.molt(train + "--resume"), 1, {"step 2: what ", "keeps the checkpoint of step 1"});
  place.shell("rm -rf nan");
}

TEST(Nan, InAnUpdateIsNotWrittenOverTheLastGoodCheckpoint) {
  const Place& place = Place::the();
  // The gradients of the first step are sound; its update is not.
  expect_line(
      place.molt("train @/good.yaml output_dir=@/nan learning_rate=1e38 lr_scheduler_type=constant save_steps=1"), 1,
      {"step 1: ", "in_proj.lora_A", "not finite after the update", "no checkpoint was written"});
  EXPECT_TRUE(names_below(place / "nan/checkpoints").empty());
  EXPECT_FALSE(fs::exists(place / "nan/adapter"));
  place.shell("rm -rf nan");
}

TEST(Nan, InABaseOrAnAdapterIsRefusedByName) {
  const Place& place = Place::the();
  place.shell(
      "cp -r run/adapter nan_adapter && printf '\\000\\000\\200\\177' | dd of=nan_adapter/adapter_model.safetensors "
      "bs=1 conv=notrunc status=none seek=$(($(stat -c %s run/adapter/adapter_model.safetensors) - 8))");
  expect_line(place.molt("generate --model @/base --adapter @/nan_adapter --prompt one"), 2,
              {"nan_adapter", "lora", "not finite"});
  place.shell("rm -rf nan_adapter");
}

}  // namespace
}  // namespace molt::test
