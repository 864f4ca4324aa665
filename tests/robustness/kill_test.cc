// kill -9 at any moment: whatever was under way, --resume goes on, and the result has the bits of a run that nobody
// disturbed. MOLT_TORTURE_KILLS in the environment says how many kills (make torture: 200), else a few.
#include <fcntl.h>

#include <random>

#include "molt/base/json.h"
#include "tests/robustness/place.h"

namespace molt::test {
namespace {

using Clock = std::chrono::steady_clock;

/// Starts `molt train …`, kills it after `seconds` if it still runs. Returns its exit code, or -1 when it was killed.
int run_and_kill(const std::vector<std::string>& arguments, double seconds, const std::string& log) {
  const pid_t child = ::fork();
  if (child == 0) {
    const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ::dup2(fd, STDOUT_FILENO);
    ::dup2(fd, STDERR_FILENO);
    std::vector<char*> argv = {const_cast<char*>(MOLT_BINARY)};
    for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    ::execv(MOLT_BINARY, argv.data());
    ::_exit(127);
  }
  const auto deadline = Clock::now() + std::chrono::duration<double>(seconds);
  int status = 0;
  for (;;) {
    if (::waitpid(child, &status, WNOHANG) == child) return WIFEXITED(status) ? WEXITSTATUS(status) : -2;
    if (Clock::now() >= deadline) break;
    std::this_thread::sleep_for(std::chrono::microseconds(300));
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// What a log says but for times and memory.
std::string timeless(const std::string& metrics) {
  std::istringstream lines(read_file(metrics));
  std::string out;
  for (std::string line; std::getline(lines, line);) {
    Json record = Json::parse(line);
    for (const char* key : {"tokens_per_second", "seconds", "memory_mib"}) record.erase(key);
    out += record.dump() + "\n";
  }
  return out;
}

struct Variant {
  const char* name;
  std::string overrides;
  const char* product;
};

TEST(Kill, AtAnyMomentTheEndHasTheSameBits) {
  const Place& place = Place::the();
  const char* asked = std::getenv("MOLT_TORTURE_KILLS");
  const int wanted = asked ? std::atoi(asked) : 6;
  const unsigned seed = asked ? static_cast<unsigned>(::getpid()) : 11;
  std::mt19937 draw(seed);
  const Variant variants[] = {{"sdt and lora", "method=" + kSdtAndLora, "adapter/adapter_model.safetensors"},
                              {"full", "method=full", "model/model.safetensors"}};
  int kills = 0, ended = 0, differences = 0;
  for (int round = 0; kills < wanted; ++round) {
    const Variant& v = variants[round % 2];
    SCOPED_TRACE(str(v.name, ", seed ", seed));
    // The reference, and how long it takes on this machine at this time.
    const std::string calm = place / "calm", rough = place / "rough", log = place / "rough.log";
    fs::remove_all(calm);
    fs::remove_all(rough);
    std::vector<std::string> arguments = {"train",        place / "good.yaml", v.overrides,
                                          "max_steps=60", "save_steps=3",      "output_dir=" + calm};
    const auto start = Clock::now();
    ASSERT_EQ(run_and_kill(arguments, 300, log), 0) << read_file(log);
    const double whole = std::chrono::duration<double>(Clock::now() - start).count();
    arguments.back() = "output_dir=" + rough;
    arguments.push_back("--resume");
    int code = -1;
    // Early on kills come anywhere in a run, the writing of the first files included.
    for (int attempt = 0; code == -1 && attempt < 40; ++attempt) {
      const bool spare = kills >= wanted || attempt == 39;
      const double moment = std::uniform_real_distribution<double>(0, whole * (attempt % 4 == 3 ? 1.2 : 0.6))(draw);
      code = run_and_kill(arguments, spare ? 300 : moment, log);
      kills += code == -1;
    }
    ASSERT_EQ(code, 0) << read_file(log);
    ++ended;
    const bool same = read_file(calm + "/" + v.product) == read_file(rough + "/" + v.product) &&
                      timeless(calm + "/metrics.jsonl") == timeless(rough + "/metrics.jsonl");
    differences += !same;
    EXPECT_EQ(timeless(calm + "/metrics.jsonl"), timeless(rough + "/metrics.jsonl"));
    EXPECT_TRUE(same) << "after " << kills << " kills";
    EXPECT_EQ(names_below(calm), names_below(rough)) << "something was left behind";
  }
  EXPECT_EQ(differences, 0);
  std::printf("%d kills, %d runs ended, %d differences\n", kills, ended, differences);
}

TEST(Kill, InterruptedEndsWithACheckpoint) {
  const Place& place = Place::the();
  const std::string run = place / "interrupted";
  const Ran ran = place.script(
      "$MOLT train good.yaml output_dir=interrupted max_steps=100000 & pid=$!\n"
      "for i in $(seq 200); do [ -e interrupted/metrics.jsonl ] && break; sleep 0.05; done\n"
      "kill -INT $pid; wait $pid");
  EXPECT_EQ(ran.code, 130) << ran.err;
  EXPECT_TRUE(has(ran.err, "--resume"));
  int checkpoints = 0;
  for (const auto& entry : fs::directory_iterator(run + "/checkpoints")) {
    ++checkpoints;
    EXPECT_EQ(entry.path().filename().string().find(".unfinished"), std::string::npos);
  }
  EXPECT_GE(checkpoints, 1);
}

TEST(Kill, InterruptedBeforeTheFirstStepEndsAtOnce) {
  const Place& place = Place::the();
  // A pipe that nobody writes to: the program waits for its data.
  place.shell("mkfifo pipe.jsonl");
  for (const char* signal : {"INT", "TERM"}) {
    SCOPED_TRACE(signal);
    const Ran ran = place.script(str(
        // A shell lets what it starts in the background ignore Ctrl-C; env does not.
        "env --default-signal=INT $MOLT train good.yaml output_dir=early data.train=pipe.jsonl & pid=$!\n"
        "sleep 0.5; kill -",
        signal, " $pid; sleep 0.5; kill -9 $pid && echo it did not end; wait $pid"));
    EXPECT_EQ(ran.out, "");
    EXPECT_GE(ran.code, 128);
  }
  EXPECT_FALSE(fs::exists(place / "early/checkpoints"));
  place.shell("rm -rf pipe.jsonl early");
}

}  // namespace
}  // namespace molt::test
