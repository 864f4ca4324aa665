// Run directories: what may become one, who may write to it, and checkpoints that are whole or absent.
#include "molt/train/run_directory.h"

#include <gtest/gtest.h>

#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/base/json.h"
#include "tests/train/temporary.h"

namespace molt::train {
namespace {

using Steps = std::vector<int64_t>;

template <class F>
std::string refusal(const F& f) {
  try {
    f();
  } catch (const UsageError& e) {
    return e.what();
  }
  return "no refusal";
}

void write_checkpoint(const RunDirectory& run, int64_t step, const std::string& content = "x") {
  const std::string path = run.begin_checkpoint(step);
  make_directories(path + "/deep");
  write_file_atomic(path + "/deep/state", content);
  run.commit_checkpoint(step);
}

TEST(RunDirectory, CreatesAndOpens) {
  TemporaryDirectory dir;
  const std::string path = dir / "runs/first";
  { const RunDirectory run = RunDirectory::create(path + "/", "seed: 1\n"); }
  const RunDirectory run = RunDirectory::open(path);
  EXPECT_EQ(read_file(run.recipe()), "seed: 1\n");
  EXPECT_EQ(read_json_file(path + "/run.json")["format"], kRunFormat);
  EXPECT_EQ(run.metrics(), path + "/metrics.jsonl");
  EXPECT_EQ(run.checkpoint_steps(), Steps{});
}

TEST(RunDirectory, OneWriterAtATime) {
  TemporaryDirectory dir;
  {
    const RunDirectory run = RunDirectory::create(dir / "run", "");
    EXPECT_NE(refusal([&] { RunDirectory::open(dir / "run"); }).find("another process"), std::string::npos);
  }
  EXPECT_NO_THROW(RunDirectory::open(dir / "run"));
}

TEST(RunDirectory, RefusesWhatIsThereAlready) {
  TemporaryDirectory dir;
  { const RunDirectory run = RunDirectory::create(dir / "run", ""); }
  EXPECT_NE(refusal([&] { RunDirectory::create(dir / "run", ""); }).find("--resume"), std::string::npos);
  make_directories(dir / "other");
  EXPECT_NO_THROW(RunDirectory::create(dir / "other", "")) << "an empty directory is fine";
  make_directories(dir / "photos");
  write_file_atomic(dir / "photos/cat.jpg", "meow");
  EXPECT_NE(refusal([&] { RunDirectory::create(dir / "photos", ""); }).find("cat.jpg"), std::string::npos);
  EXPECT_NE(refusal([&] { RunDirectory::create(dir / "photos/cat.jpg", ""); }).find("found a file"), std::string::npos);
}

TEST(RunDirectory, OpenRefusesStrangers) {
  TemporaryDirectory dir;
  EXPECT_NE(refusal([&] { RunDirectory::open(dir / "none"); }).find("not a run directory"), std::string::npos);
  make_directories(dir / "run");
  const std::pair<const char*, const char*> cases[] = {{"{\"format\": 99}", "expected run format 1, found 99"},
                                                       {"{}", "integer \"format\""},
                                                       {"[1]", "integer \"format\""},
                                                       {"{\"format\": \"1\"}", "integer \"format\""},
                                                       {"{", "not valid JSON"}};
  for (const auto& [text, expected] : cases) {
    write_file_atomic(dir / "run/run.json", text);
    EXPECT_NE(refusal([&] { RunDirectory::open(dir / "run"); }).find(expected), std::string::npos) << text;
  }
}

TEST(RunDirectory, CheckpointsAppearWhole) {
  TemporaryDirectory dir;
  const RunDirectory run = RunDirectory::create(dir / "run", "");
  const std::string unfinished = run.begin_checkpoint(300);
  write_file_atomic(unfinished + "/state", "half");
  EXPECT_EQ(run.checkpoint_steps(), Steps{}) << "nobody sees it before it is committed";
  EXPECT_FALSE(std::filesystem::exists(run.begin_checkpoint(300) + "/state")) << "leftovers of a killed writer go";
  write_checkpoint(run, 300, "first");
  write_checkpoint(run, 20);
  write_checkpoint(run, 1234567890);
  EXPECT_EQ(run.checkpoint_steps(), (Steps{20, 300, 1234567890}));
  write_checkpoint(run, 300, "second");
  EXPECT_EQ(read_file(run.checkpoint(300) + "/deep/state"), "second");
}

TEST(RunDirectory, KeepsTheLastAndTheBest) {
  TemporaryDirectory dir;
  const RunDirectory run = RunDirectory::create(dir / "run", "");
  for (const int64_t step : {100, 200, 300, 400, 500}) write_checkpoint(run, step);
  run.begin_checkpoint(600);
  make_directories(dir / "run/checkpoints/step-mine");  // no name of ours
  run.keep_checkpoints(2, 200);
  EXPECT_EQ(run.checkpoint_steps(), (Steps{200, 400, 500}));
  EXPECT_TRUE(std::filesystem::exists(dir / "run/checkpoints/step-mine"));
  EXPECT_FALSE(std::filesystem::exists(run.checkpoint(600) + ".unfinished"));
  run.keep_checkpoints(10);
  EXPECT_EQ(run.checkpoint_steps(), (Steps{200, 400, 500}));
  run.keep_checkpoints(0);
  EXPECT_EQ(run.checkpoint_steps(), Steps{});
}

}  // namespace
}  // namespace molt::train
