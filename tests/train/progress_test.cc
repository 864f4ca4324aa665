// The progress line on an imaginary terminal that keeps what a real one would show.
#include "molt/train/progress.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace molt::train {
namespace {

/// A terminal: \r, \n, ESC[K and colours; one column per code point. Fails when a line would wrap.
class Screen {
 public:
  explicit Screen(int width) : width_(width) {}

  void write(std::string_view text) {
    ++writes;
    for (size_t i = 0; i < text.size();) {
      if (text[i] == '\r') {
        column_ = 0, ++i;
      } else if (text[i] == '\n') {
        lines.emplace_back();
        column_ = 0, ++i;
      } else if (text[i] == '\x1b') {
        size_t end = i + 2;
        while (std::isdigit(static_cast<unsigned char>(text[end])) || text[end] == ';') ++end;
        if (text[end] == 'K') lines.back().resize(column_);
        i = end + 1;
      } else {
        size_t end = i + 1;
        while (end < text.size() && (text[end] & 0xc0) == 0x80) ++end;
        std::vector<std::string>& line = lines.back();
        if (line.size() <= column_) line.resize(column_ + 1, " ");
        line[column_++] = std::string(text.substr(i, end - i));
        EXPECT_LT(static_cast<int>(line.size()), width_) << "the last column was reached";
        i = end;
      }
    }
  }
  std::string line(size_t i) const {
    std::string out;
    for (const std::string& cell : lines.at(i)) out += cell;
    return out;
  }
  std::string last() const { return line(lines.size() - 1); }

  std::vector<std::vector<std::string>> lines{{}};
  int writes = 0;

 private:
  int width_;
  size_t column_ = 0;
};

struct Bench {
  explicit Bench(bool tty, int width = 100) : screen(tty ? width : 1000) {
    options.sink = [this](std::string_view text) { screen.write(text); };
    options.tty = tty;
    options.width = width;
    options.clock = [this] { return now; };
  }
  ProgressStatus status(int64_t step) { return {step, 2.5, 6200, int64_t{3} << 30}; }
  Screen screen;
  double now = 1000;
  ProgressOptions options;
};

TEST(Progress, ShowsEverythingOnOneLine) {
  Bench bench(true);
  Progress progress(bench.options);
  progress.begin("train", 200);
  for (int step = 1; step <= 100; ++step) {
    bench.now += 0.5;
    progress.update(bench.status(step));
  }
  const std::string line = bench.screen.last();
  for (const char* part : {"train ", " 50% ", "100/200", "loss 2.5000", "6.20 k tok/s", "3.00 GiB", "0:50 left", "━"})
    EXPECT_NE(line.find(part), std::string::npos) << part << " in: " << line;
  EXPECT_EQ(bench.screen.lines.size(), 1u);
}

TEST(Progress, AtMostTenFramesPerSecondAndTheLastOneAlways) {
  Bench bench(true);
  Progress progress(bench.options);
  progress.begin("train", 3000);
  for (int step = 1; step <= 3000; ++step) {
    bench.now += 0.001;
    progress.update(bench.status(step));
  }
  EXPECT_LE(bench.screen.writes, 31);
  EXPECT_GE(bench.screen.writes, 29);
  EXPECT_NE(bench.screen.last().find("3000/3000"), std::string::npos);
  EXPECT_NE(bench.screen.last().find("100%"), std::string::npos);
}

TEST(Progress, MessagesStandAboveTheLine) {
  Bench bench(true);
  Progress progress(bench.options);
  progress.begin("train", 10);
  bench.now += 1;
  progress.update(bench.status(1));
  const int writes = bench.screen.writes;
  progress.message("short\n");
  EXPECT_EQ(bench.screen.writes, writes + 1) << "one write, so nothing is ever seen half drawn";
  ASSERT_EQ(bench.screen.lines.size(), 2u);
  EXPECT_EQ(bench.screen.line(0), "short");
  EXPECT_NE(bench.screen.line(1).find(" 1/10"), std::string::npos);
  progress.finish();
  progress.message("after");
  ASSERT_EQ(bench.screen.lines.size(), 4u);
  EXPECT_EQ(bench.screen.line(2), "after");
}

TEST(Progress, FitsAnyWidthAndKeepsWhatMattersLongest) {
  for (const bool unicode : {true, false}) {
    for (int width = 1; width <= 140; ++width) {
      Bench bench(true, width);  // the screen fails the test when a line wraps
      bench.options.unicode = unicode;
      bench.options.colour = unicode;
      Progress progress(bench.options);
      progress.begin("train", 123456);
      bench.now += 1;
      progress.update(bench.status(60000));
      if (width >= 15) {
        EXPECT_NE(bench.screen.last().find("60000/123456"), std::string::npos) << width;
      }
      if (width >= 60) {
        EXPECT_NE(bench.screen.last().find("left"), std::string::npos) << width;
      }
    }
  }
}

TEST(Progress, TimeLeftFollowsThePaceAndResumption) {
  Bench bench(true);
  Progress progress(bench.options);
  progress.begin("train", 1000, 500);  // resumed: 500 steps cost nothing now
  EXPECT_LT(progress.seconds_left(), 0);
  bench.now += 2;
  progress.update(bench.status(501));
  EXPECT_NEAR(progress.seconds_left(), 499 * 2, 1e-6);
  for (int step = 502; step <= 700; ++step) {
    bench.now += 1;
    progress.update(bench.status(step));
  }
  // 199 steps at one second leave 0.95^199 < 1e-4 of the first one's weight: 300 s within 0.1 %.
  EXPECT_NEAR(progress.seconds_left(), 300, 0.3);
}

TEST(Progress, SpeedIsThatOfTheLastStepsAndThenOfAll) {
  Bench bench(true);
  Progress progress(bench.options);
  progress.begin("train", 200);
  const auto step = [&](int at, double rate) {
    bench.now += 1;
    ProgressStatus status = bench.status(at);
    status.tokens_per_second = rate;
    status.tokens = 1000;
    progress.update(status);
  };
  for (int at = 1; at <= 100; ++at) step(at, 1000);
  step(101, 10);  // a step of 100 s among such of 1 s
  // 10 steps' weight at one second each, less a tenth, and one of 100: 10,000 tokens in 109 s.
  EXPECT_NE(bench.screen.last().find(" 91.7 tok/s"), std::string::npos) << bench.screen.last();
  for (int at = 102; at <= 199; ++at) step(at, 1000);
  // 0.9^98 of that step's weight is left: below 1 % of ten seconds.
  EXPECT_NE(bench.screen.last().find(" 1.00 k tok/s"), std::string::npos) << bench.screen.last();
  step(200, 1000);
  // At the end 200,000 tokens in 299 s.
  EXPECT_NE(bench.screen.last().find(" 669 tok/s"), std::string::npos) << bench.screen.last();
}

TEST(Progress, AsidesStandAtTheEndUntilTheyAreOver) {
  Bench bench(true);
  Progress progress(bench.options);
  progress.aside("nothing runs");
  progress.begin("train", 10);
  bench.now += 1;
  progress.update(bench.status(5));
  bench.now += 1;
  progress.aside("validating 50%");
  EXPECT_NE(bench.screen.last().find("validating 50%"), std::string::npos) << bench.screen.last();
  progress.aside("");
  EXPECT_EQ(bench.screen.last().find("validating"), std::string::npos) << bench.screen.last();
  EXPECT_EQ(bench.screen.lines.size(), 1u);
  Bench file(false);
  Progress plain(file.options);
  plain.begin("train", 10);
  plain.update(file.status(1));
  const int writes = file.screen.writes;
  plain.aside("validating 50%");
  EXPECT_EQ(file.screen.writes, writes);
}

TEST(Progress, PlainLinesAreFewAndWhole) {
  Bench bench(false);
  {
    Progress progress(bench.options);
    progress.begin("train", 1000);
    for (int step = 1; step <= 1000; ++step) {
      bench.now += 0.01;
      progress.update(bench.status(step));
    }
    progress.message("done");
  }
  // The first step, each tenth after it, the last; then the message and the cursor's empty line.
  EXPECT_EQ(bench.screen.lines.size(), 13u);
  EXPECT_EQ(bench.screen.line(0).find("train    1/1000  loss 2.5000"), 0u) << bench.screen.line(0);
  EXPECT_NE(bench.screen.line(10).find("1000/1000"), std::string::npos) << bench.screen.line(10);
  EXPECT_EQ(bench.screen.line(11), "done");
  EXPECT_EQ(bench.screen.last(), "");
}

TEST(Progress, PlainLinesComeByTimeWhenStepsAreSlow) {
  Bench bench(false);
  Progress progress(bench.options);
  progress.begin("train", 100000);
  for (int step = 1; step <= 100; ++step) {
    bench.now += 13;
    progress.update(bench.status(step));
  }
  EXPECT_EQ(bench.screen.writes, 20) << "steps 1, 6, 11, ...: every fifth is the first past 60 s";
}

TEST(Progress, NextJobStartsOnItsOwnLineAndNanIsShown) {
  Bench bench(true);
  Progress progress(bench.options);
  progress.begin("train", 10);
  bench.now += 1;
  ProgressStatus status = bench.status(5);
  status.loss = std::nan("");
  progress.update(status);
  EXPECT_NE(bench.screen.last().find("loss nan"), std::string::npos);
  progress.begin("eval", 4);
  bench.now += 1;
  progress.update({1, {}, 0, 0});
  ASSERT_EQ(bench.screen.lines.size(), 2u);
  EXPECT_EQ(bench.screen.last().find("eval "), 0u);
  EXPECT_EQ(bench.screen.last().find("tok/s"), std::string::npos);
}

}  // namespace
}  // namespace molt::train
