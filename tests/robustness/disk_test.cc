// Disks that are full, too small or read-only: one line, exit code 1, the last good checkpoint kept, and the run goes
// on with the same bits once there is room.
#include "tests/robustness/place.h"

namespace molt::test {
namespace {

const char* const kNoMount = "this user may not mount a small file system here";

class Disk : public ::testing::Test {
 protected:
  const Place& place = Place::the();
  void TearDown() override {
    for (const char* name : {"disk", "merged", "limited"}) {
      std::error_code error;
      fs::remove_all(place / name, error);
    }
  }
};

TEST_F(Disk, FullWhileTrainingKeepsTheLastCheckpoint) {
  const std::string disk = place / "disk";
  const SmallDisk small(disk, "400k");
  if (!small.mounted()) GTEST_SKIP() << kNoMount;
  // Checkpoints of 100 kB and more: some fit beside each other, the last ones do not.
  const std::string run = "train @/good.yaml output_dir=@/disk/run method.lora.r=64 save_total_limit=100 save_steps=2 ";
  expect_line(place.molt(run), 1, {"disk/run/checkpoints", "free", "the checkpoint of step", "--resume"});
  const auto kept = names_below(disk + "/run/checkpoints");
  EXPECT_FALSE(kept.empty());
  for (const std::string& name : kept) EXPECT_EQ(name.find("unfinished"), std::string::npos) << name;
  ASSERT_TRUE(small.remount("size=20m"));
  place.works(run + "--resume");
  place.works("train @/good.yaml output_dir=@/disk/calm method.lora.r=64 save_total_limit=100 save_steps=2");
  EXPECT_EQ(read_file(disk + "/run/adapter/adapter_model.safetensors"),
            read_file(disk + "/calm/adapter/adapter_model.safetensors"));
}

TEST_F(Disk, TooSmallForOneCheckpointIsFoundBeforeTheFirstStep) {
  const std::string disk = place / "disk";
  const SmallDisk small(disk, "120k");
  if (!small.mounted()) GTEST_SKIP() << kNoMount;
  const Ran ran = place.molt("train @/good.yaml output_dir=@/disk/run method.lora.r=64");
  expect_line(ran, 1, {"needs", "free"});
  EXPECT_EQ(ran.err.find("loss"), std::string::npos) << "it trained: " << ran.err;
}

TEST_F(Disk, FullToTheLastByteAtAnyMomentIsOneLine) {
  const std::string disk = place / "disk";
  for (const char* size : {"4k", "8k", "16k", "32k", "48k", "64k", "96k"}) {
    SCOPED_TRACE(size);
    const SmallDisk small(disk, size);
    if (!small.mounted()) GTEST_SKIP() << kNoMount;
    expect_line(place.molt("train @/good.yaml output_dir=@/disk/run method.lora.r=16"), 1, {"disk/run"});
  }
}

TEST_F(Disk, FullWhileMergingLeavesNothing) {
  const std::string disk = place / "disk";
  const SmallDisk small(disk, "24k");
  if (!small.mounted()) GTEST_SKIP() << kNoMount;
  expect_line(place.molt("merge --model @/base --adapter @/run/adapter --out @/disk/merged"), 1,
              {"disk/merged", "free"});
  EXPECT_TRUE(names_below(disk).empty());
}

TEST_F(Disk, FullWhileATokenizerIsWritten) {
  const std::string disk = place / "disk";
  const SmallDisk small(disk, "4k");
  if (!small.mounted()) GTEST_SKIP() << kNoMount;
  expect_line(place.molt("tokenizer @/text.txt --out @/disk/tok --vocabulary 280"), 1, {"disk/tok"});
}

TEST_F(Disk, ReadOnlyIsOneLine) {
  const std::string disk = place / "disk";
  const SmallDisk small(disk, "4m");
  if (!small.mounted()) GTEST_SKIP() << kNoMount;
  place.works("train @/good.yaml output_dir=@/disk/run max_steps=4");
  ASSERT_TRUE(small.remount("size=4m", true));
  expect_line(place.molt("train @/good.yaml output_dir=@/disk/new"), 1, {"disk/new", "Read-only"});
  expect_line(place.molt("train @/good.yaml output_dir=@/disk/run max_steps=4 --resume"), 1, {"disk/run", "Read-only"});
  expect_line(place.molt("merge --model @/base --adapter @/run/adapter --out @/disk/merged"), 1, {"disk", "Read-only"});
  // What only reads works.
  place.works("generate --model @/base --adapter @/disk/run/adapter --prompt one --max-new-tokens 2 --quiet");
  place.works("inspect @/disk/run");
}

TEST_F(Disk, PastTheShellsLimitIsLikeAFullDisk) {
  // In blocks of 512 bytes or of 1024, by shell: checkpoints are past it, the first files are not.
  const Ran ran = place.script("ulimit -f 16; $MOLT train good.yaml output_dir=limited method.lora.r=32");
  EXPECT_EQ(ran.code, 1) << ran.err;
  EXPECT_TRUE(has(ran.err, "File too large"));
  EXPECT_TRUE(has(ran.err, "limited/checkpoints"));
  EXPECT_TRUE(names_below(place / "limited/checkpoints").empty());
}

TEST_F(Disk, FullBehindStandardOutputIsOneLine) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  expect_line(place.molt("generate --model @/base --prompt one --max-new-tokens 4 --quiet >/dev/full"), 1,
              {"standard output", "No space left"});
}

TEST_F(Disk, AFullLogStopsTheRun) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  const Ran first = place.molt("train @/good.yaml output_dir=@/limited max_steps=4");
  ASSERT_EQ(first.code, 0) << first.err;
  fs::remove_all(place / "limited/tensorboard");
  fs::create_directory(place / "limited/tensorboard");
  fs::remove(place / "limited/report.html");
  fs::create_directory(place / "limited/report.html");  // a place where no file can be put
  expect_line(place.molt("train @/good.yaml output_dir=@/limited max_steps=4 --resume"), 1, {"report.html"});
}

}  // namespace
}  // namespace molt::test
