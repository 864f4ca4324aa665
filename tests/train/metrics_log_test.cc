// The run log: round trips, resumption after a kill at any byte, and malformed logs.
#include "molt/train/metrics_log.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/base/json.h"
#include "tests/train/temporary.h"

namespace molt::train {
namespace {

StepRecord step_record(int64_t step) {
  StepRecord record;
  record.step = step;
  record.epoch = static_cast<double>(step) / 10;
  record.loss = 2.0 / static_cast<double>(step);
  record.lr = 2e-4;
  record.grad_norm = 0.1;
  record.tokens = 512;
  record.labelled_tokens = 100;
  record.tokens_per_second = 6200.5;
  record.seconds = 1.25 * static_cast<double>(step);
  record.memory_mib = 812.5;
  return record;
}

/// What a run of `steps` steps logs: a note first, a step each, an evaluation after every second one.
void run(MetricsLog& log, int64_t from, int64_t to) {
  if (from == 0) log.write(NoteRecord{0, "begins"});
  for (int64_t step = from + 1; step <= to; ++step) {
    log.write(step_record(step));
    if (step % 2 == 0) log.write(EvalRecord{step, "validation", {{"loss", 1.5}, {"accuracy", 0.5}}});
  }
}

void put(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

std::string message_of(const std::string& path) {
  try {
    read_metrics(path);
  } catch (const UsageError& e) {
    return e.what();
  }
  return "";
}

TEST(MetricsLog, ReadsBackWhatWasWritten) {
  TemporaryDirectory dir;
  const std::string path = dir / "metrics.jsonl";
  MetricsLog log = MetricsLog::start(path);
  StepRecord odd = step_record(1);
  odd.loss = std::nan("");
  odd.grad_norm = std::numeric_limits<double>::infinity();
  odd.lr = 0.1 + 0.2;  // needs all 17 digits
  odd.tokens = int64_t{1} << 60;
  log.write(odd);
  // Not in alphabetical order: values are shown as they were written.
  log.write(EvalRecord{1, "test \"quoted\"\n", {{"rouge", 0.5}, {"bleu", -std::numeric_limits<double>::infinity()}}});
  log.write(NoteRecord{1, "bad bytes \xff here"});
  const std::vector<MetricsRecord> records = read_metrics(path);  // while the log is still open: lines are flushed
  ASSERT_EQ(records.size(), 3u);
  const auto& step = std::get<StepRecord>(records[0]);
  EXPECT_TRUE(std::isnan(step.loss));
  EXPECT_EQ(step.grad_norm, std::numeric_limits<double>::infinity());
  EXPECT_EQ(step.lr, 0.1 + 0.2);
  EXPECT_EQ(step.tokens, int64_t{1} << 60);
  EXPECT_EQ(step.seconds, 1.25);
  const auto& eval = std::get<EvalRecord>(records[1]);
  EXPECT_EQ(eval.name, "test \"quoted\"\n");
  ASSERT_EQ(eval.values.size(), 2u);
  EXPECT_EQ(eval.values[0].first, "rouge");
  EXPECT_EQ(eval.values[1].second, -std::numeric_limits<double>::infinity());
  EXPECT_EQ(std::get<NoteRecord>(records[2]).text, "bad bytes \xef\xbf\xbd here");
}

TEST(MetricsLog, LinesAreOrdinaryJson) {
  const Json json = parse_json(to_json_line(step_record(3)), "line");
  EXPECT_EQ(json["type"], "step");
  EXPECT_EQ(json["step"], 3);
  EXPECT_EQ(json["labelled_tokens"], 100);
  EXPECT_EQ(json.size(), 11u);
}

TEST(MetricsLog, KilledAtAnyByteThenResumedEqualsUninterrupted) {
  TemporaryDirectory dir;
  const std::string whole = dir / "whole.jsonl", path = dir / "metrics.jsonl";
  {
    MetricsLog log = MetricsLog::start(whole);
    run(log, 0, 6);
  }
  const std::string bytes = read_file(whole);
  // The checkpoint of step 3 is there once all of its lines are.
  size_t after_step_3 = 0;
  for (int lines = 0; lines < 5; ++lines) after_step_3 = bytes.find('\n', after_step_3) + 1;
  // Every cut beside a line break, and some within the lines (each resumption waits for the disk).
  for (size_t killed_at = after_step_3; killed_at <= bytes.size(); ++killed_at) {
    const size_t next_break = bytes.find('\n', killed_at - 2);
    if (next_break > killed_at && killed_at % 37 != 0) continue;
    put(path, bytes.substr(0, killed_at));
    MetricsLog log = MetricsLog::resume(path, 3);
    run(log, 3, 6);
    ASSERT_EQ(read_file(path), bytes) << "killed at byte " << killed_at;
  }
}

TEST(MetricsLog, WhatCameAfterTheCheckpointOfTheSameStepGoes) {
  TemporaryDirectory dir;
  const std::string path = dir / "metrics.jsonl";
  int64_t size = 0;
  {
    MetricsLog log = MetricsLog::start(path);
    log.write(NoteRecord{3, "before"});
    size = log.size();
    log.write(NoteRecord{3, "after"});
  }
  EXPECT_EQ(size, static_cast<int64_t>(read_file(path).find('\n')) + 1);
  { MetricsLog log = MetricsLog::resume(path, 3, size); }
  EXPECT_EQ(static_cast<int64_t>(read_file(path).size()), size);
  EXPECT_NE(read_file(path).find("before"), std::string::npos);
}

TEST(MetricsLog, StartEmptiesAndResumeMayFindNothing) {
  TemporaryDirectory dir;
  const std::string path = dir / "metrics.jsonl";
  { MetricsLog log = MetricsLog::resume(path, 10); }
  EXPECT_EQ(read_file(path), "");
  {
    MetricsLog log = MetricsLog::start(path);
    run(log, 0, 2);
  }
  { MetricsLog log = MetricsLog::start(path); }
  EXPECT_EQ(read_file(path), "");
}

TEST(MetricsLog, MovesKeepOneOwner) {
  TemporaryDirectory dir;
  MetricsLog log = MetricsLog::start(dir / "a.jsonl");
  MetricsLog other = std::move(log);
  other.write(NoteRecord{0, "x"});
  log = MetricsLog::start(dir / "b.jsonl");
  log.write(NoteRecord{0, "y"});
  log.sync();
  EXPECT_EQ(read_metrics(dir / "a.jsonl").size(), 1u);
  EXPECT_EQ(read_metrics(dir / "b.jsonl").size(), 1u);
}

TEST(MetricsLog, ReaderLeavesOutATornLastLine) {
  TemporaryDirectory dir;
  put(dir / "m", to_json_line(step_record(1)) + "\n{\"type\":\"st");
  EXPECT_EQ(read_metrics(dir / "m").size(), 1u);
}

TEST(MetricsLog, MalformedLinesAreRefusedByNumber) {
  TemporaryDirectory dir;
  const std::string good = to_json_line(NoteRecord{1, "x"}) + "\n";
  struct Case {
    const char* line;
    const char* expected;
  };
  const Case cases[] = {
      {"{\"type\":", "not valid JSON"},
      {"", "not valid JSON"},
      {"[1, 2]", "expected a JSON object"},
      {"{}", "no \"type\""},
      {"{\"type\": 3}", "\"type\" is not a string"},
      {"{\"type\":\"sneeze\",\"step\":1}", "unknown record type \"sneeze\""},
      {"{\"type\":\"note\",\"step\":1.5,\"text\":\"\"}", "\"step\" is not an integer"},
      {"{\"type\":\"note\",\"step\":18446744073709551615,\"text\":\"\"}", "\"step\" is not an integer"},
      {"{\"type\":\"eval\",\"step\":1,\"name\":\"v\",\"values\":[]}", "\"values\" is not an object"},
      {"{\"type\":\"eval\",\"step\":1,\"name\":\"v\",\"values\":{\"f1\":\"high\"}}", "\"f1\" is not a number"},
      {"{\"type\":\"step\",\"step\":1}", "no \"epoch\""}};
  for (const Case& c : cases) {
    put(dir / "m", good + c.line + "\n");
    const std::string message = message_of(dir / "m");
    EXPECT_NE(message.find(c.expected), std::string::npos) << c.line << " gave: " << message;
    EXPECT_NE(message.find("m:2: "), std::string::npos) << message;
    EXPECT_THROW(MetricsLog::resume(dir / "m", 5), UsageError);
    EXPECT_EQ(read_file(dir / "m"), good + c.line + "\n") << "a refused log stays as it is";
  }
  EXPECT_THROW(read_metrics(dir / "absent"), UsageError);
  EXPECT_THROW(MetricsLog::start(dir / "no/such/directory"), SystemError);
}

TEST(MetricsLog, FullDiskIsASystemError) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "this system has no /dev/full";
  MetricsLog log = MetricsLog::start("/dev/full");
  EXPECT_THROW(log.write(NoteRecord{0, "x"}), SystemError);
}

}  // namespace
}  // namespace molt::train
