// Replays every target's corpus, then mutates it: a few hundred inputs per target, the same ones each time (fewer where
// it takes more than 5 s), or with MOLT_FUZZ_SECONDS=60 in the environment for so long and by the clock. Fuzzing that
// is guided by coverage is the libFuzzer programs' business (docs/building.md).
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "molt/base/file.h"
#include "molt/base/rng.h"
#include "tests/fuzz/target.h"

namespace molt::fuzz {
namespace {

namespace fs = std::filesystem;

struct Seed {
  std::string name, bytes;
};

std::vector<Seed> corpus_of(const std::string& target) {
  std::vector<Seed> seeds;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(MOLT_SOURCE_DIR "/tests/fuzz/corpus/" + target, error))
    seeds.push_back({entry.path().filename().string(), read_file(entry.path().string())});
  std::sort(seeds.begin(), seeds.end(), [](const Seed& a, const Seed& b) { return a.name < b.name; });
  return seeds;
}

/// Draws of one stream.
class Draws {
 public:
  explicit Draws(uint64_t seed) : rng_(seed, "fuzz") {}
  size_t below(size_t n) { return n == 0 ? 0 : rng_.below(at_++, static_cast<uint32_t>(n)); }

 private:
  Rng rng_;
  uint64_t at_ = 0;
};

/// What readers trip over: lengths, signs, nesting, words of the formats.
const char* const kPieces[] = {"0",
                               "-1",
                               "1e999",
                               "18446744073709551615",
                               "9223372036854775807",
                               "null",
                               "true",
                               "[]",
                               "{}",
                               "\"\"",
                               "[[[[[[[[",
                               "{\"a\":",
                               "\\u0000",
                               "\xff",
                               "\r\n",
                               "\n\n",
                               "\t",
                               "\xEF\xBB\xBF",
                               "{{",
                               "}",
                               "\""};

std::string mutated(const std::vector<Seed>& seeds, Draws& draw) {
  std::string bytes = seeds[draw.below(seeds.size())].bytes;
  for (size_t changes = 1 + draw.below(4); changes > 0; --changes) {
    const size_t at = draw.below(bytes.size() + 1), length = std::min(bytes.size() - at, 1 + draw.below(32));
    switch (draw.below(8)) {
      case 0:
        if (at < bytes.size()) bytes[at] = static_cast<char>(draw.below(256));
        break;
      case 1:
        if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << draw.below(8)));
        break;
      case 2:
        bytes.erase(at, length);
        break;
      case 3:
        bytes.insert(at, bytes.substr(at, length));
        break;
      case 4:
        bytes.resize(at);
        break;
      case 5:
        bytes.insert(at, kPieces[draw.below(std::size(kPieces))]);
        break;
      case 6: {
        const std::string& other = seeds[draw.below(seeds.size())].bytes;
        bytes = bytes.substr(0, at) + other.substr(draw.below(other.size() + 1));
        break;
      }
      default: {
        std::string extreme(size_t{1} << draw.below(4), draw.below(2) ? '\xff' : '\0');
        bytes.replace(at, std::min(extreme.size(), bytes.size() - at), extreme);
      }
    }
  }
  return bytes;
}

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

class Fuzz : public ::testing::TestWithParam<std::pair<std::string, Function>> {
 protected:
  /// Runs one input and judges it; `what` names it.
  static void judge(std::string_view bytes, const std::string& what) {
    const auto start = Clock::now();
    try {
      run(GetParam().second, bytes);
    } catch (const std::exception& e) {
      const std::string kept = (fs::temp_directory_path() / ("molt_fuzz_" + GetParam().first)).string();
      std::ofstream(kept, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
      ADD_FAILURE() << what << " (kept in " << kept << "): " << e.what();
    }
    EXPECT_LT(seconds_since(start), 20) << what;  // seconds: a reader that hangs, not a slow machine
  }
};

TEST_P(Fuzz, CorpusIsReadOrRefused) {
  const std::vector<Seed> seeds = corpus_of(GetParam().first);
  ASSERT_FALSE(seeds.empty());
  for (const Seed& seed : seeds) judge(seed.bytes, seed.name);
  judge("", "the empty input");
}

TEST_P(Fuzz, MutantsAreReadOrRefused) {
  const std::vector<Seed> seeds = corpus_of(GetParam().first);
  ASSERT_FALSE(seeds.empty());
  const char* asked = std::getenv("MOLT_FUZZ_SECONDS");
  const double seconds = asked ? std::atof(asked) : 0;
  const auto start = Clock::now();
  Draws draw(asked ? static_cast<uint64_t>(start.time_since_epoch().count()) : 1);
  int64_t inputs = 0;
  for (; asked ? seconds_since(start) < seconds : inputs < 300 && seconds_since(start) < 5; ++inputs) {
    judge(mutated(seeds, draw), "a mutant");
    if (HasFailure()) break;
  }
  RecordProperty("inputs", static_cast<int>(inputs));
}

INSTANTIATE_TEST_SUITE_P(Targets, Fuzz, ::testing::ValuesIn(targets()),
                         [](const auto& info) { return info.param.first; });

}  // namespace
}  // namespace molt::fuzz
