// Packing without padding, labels, order, and resuming with the very batches of an uninterrupted run.
#include "molt/data/batch.h"

#include <algorithm>
#include <numeric>

#include "molt/data/example_set.h"
#include "tests/data/helpers.h"

namespace molt::data {
namespace {

using testing::expect_usage_error;
using testing::toy_encoder;
using Ids = std::vector<int32_t>;

/// n examples of varied length; sample i starts with the letters of i.
std::shared_ptr<const ExampleSet> examples(size_t n, size_t spread = 7) {
  std::vector<Example> list(n);
  for (size_t i = 0; i < n; ++i) {
    list[i].prompt = std::to_string(i) + std::string(1 + i % spread, '.');
    list[i].completion = std::string(1 + i * 5 % 4, 'x');
    list[i].where = "file:" + std::to_string(i + 1);
  }
  return std::make_shared<ExampleSet>(list, DataConfig{}, toy_encoder());
}

TEST(Batch, RowsPredictTheNextTokenOfTheirOwnSegment) {
  std::vector<Example> list(2);
  list[0].prompt = "pq", list[0].completion = "r";
  list[1].prompt = "s", list[1].completion = "tu";
  const BatchStream stream(std::make_shared<ExampleSet>(list, DataConfig{}, toy_encoder()),
                           {.batch_size = 2, .shuffle = false});
  const Batch b = stream.at(0, 0);
  EXPECT_EQ(b.ids, (Ids{'p', 'q', 'r', 's', 't', 'u'}));
  EXPECT_EQ(b.labels, (Ids{kIgnored, 'r', 257, 't', 'u', 257}));
  EXPECT_EQ(b.segments.offsets(), (std::vector<int64_t>{0, 3, 6}));
  EXPECT_EQ(b.examples, (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(b.labelled, 5);
}

TEST(Batch, ReservedRowsComeFirstAndPredictNothing) {
  std::vector<Example> list(2);
  list[0].prompt = "p", list[0].completion = "q";
  list[1] = list[0];
  const BatchStream stream(std::make_shared<ExampleSet>(list, DataConfig{}, toy_encoder()),
                           {.batch_size = 2, .shuffle = false, .reserve = 2});
  const Batch b = stream.at(0, 0);
  EXPECT_EQ(b.ids, (Ids{0, 0, 'p', 'q', 0, 0, 'p', 'q'}));
  EXPECT_EQ(b.labels, (Ids{kIgnored, kIgnored, 'q', 257, kIgnored, kIgnored, 'q', 257}));
  EXPECT_EQ(b.segments.offsets(), (std::vector<int64_t>{0, 4, 8}));
}

/// Every batch of an epoch keeps the limits, is as full as its successor's first sample allows, and the epoch holds
/// each sample once with exactly its own rows.
void check_epoch(const BatchStream& stream, int64_t epoch) {
  const BatchOptions& o = stream.options();
  std::vector<int64_t> seen;
  const int64_t steps = stream.steps_per_epoch(epoch);
  for (int64_t s = 0; s < steps; ++s) {
    const Batch b = stream.at(epoch, s);
    ASSERT_EQ(b.rows(), b.segments.tokens());
    ASSERT_EQ(b.segments.count(), static_cast<int64_t>(b.examples.size()));
    ASSERT_EQ(b.ids.size(), b.labels.size());
    int64_t own = 0;
    for (size_t k = 0; k < b.examples.size(); ++k) {
      Batch alone;
      stream.source().append(b.examples[k], o.reserve, alone);
      const int64_t at = b.segments.begin(static_cast<int64_t>(k));
      ASSERT_EQ(b.segments.length(static_cast<int64_t>(k)), alone.rows());
      ASSERT_TRUE(std::equal(alone.ids.begin(), alone.ids.end(), b.ids.begin() + at));
      ASSERT_TRUE(std::equal(alone.labels.begin(), alone.labels.end(), b.labels.begin() + at));
      own += alone.labelled;
    }
    EXPECT_EQ(b.labelled, own);
    EXPECT_TRUE(!o.batch_size || b.segments.count() <= o.batch_size);
    EXPECT_TRUE(!o.tokens_per_batch || b.rows() <= o.tokens_per_batch);
    if (s + 1 < steps) {
      const Batch following = stream.at(epoch, s + 1);
      EXPECT_TRUE((o.batch_size && b.segments.count() == o.batch_size) ||
                  (o.tokens_per_batch && b.rows() + following.segments.length(0) > o.tokens_per_batch));
    }
    seen.insert(seen.end(), b.examples.begin(), b.examples.end());
  }
  if (o.drop_last) return;
  std::sort(seen.begin(), seen.end());
  std::vector<int64_t> all(static_cast<size_t>(stream.source().size()));
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(seen, all);
}

TEST(BatchStream, PacksExactly) {
  for (const BatchOptions& o :
       {BatchOptions{.batch_size = 8}, BatchOptions{.tokens_per_batch = 64},
        BatchOptions{.batch_size = 5, .tokens_per_batch = 40}, BatchOptions{.tokens_per_batch = 64, .shuffle = false},
        BatchOptions{.tokens_per_batch = 64, .reserve = 3}, BatchOptions{.batch_size = 8, .drop_last = true},
        BatchOptions{.batch_size = 1000}}) {
    const BatchStream stream(examples(203), o);
    for (int64_t epoch = 0; epoch < 3; ++epoch) check_epoch(stream, epoch);
  }
}

TEST(BatchStream, CountsItsSteps) {
  const auto source = examples(203);
  EXPECT_EQ(BatchStream(source, {.batch_size = 8}).steps_per_epoch(), 26);
  EXPECT_EQ(BatchStream(source, {.batch_size = 8, .drop_last = true}).steps_per_epoch(), 25);
  EXPECT_EQ(BatchStream(source, {.batch_size = 300, .drop_last = true}).steps_per_epoch(), 1);
  BatchStream packed(source, {.tokens_per_batch = 64});
  int64_t steps = 0;
  while (packed.position().epoch < 3) packed.next(), ++steps;
  EXPECT_EQ(steps, packed.steps_in(3));
}

TEST(BatchStream, OrderDependsOnSeedAndEpochAlone) {
  const auto source = examples(100);
  auto order = [&](uint64_t seed, int64_t epoch) {
    return BatchStream(source, {.batch_size = 100, .seed = seed}).at(epoch, 0).examples;
  };
  EXPECT_EQ(order(1, 0), order(1, 0));
  EXPECT_NE(order(1, 0), order(2, 0));
  EXPECT_NE(order(1, 0), order(1, 1));
  std::vector<int64_t> counts(100, 0);  // where sample 0 lands, over 1000 epochs: no place is favoured
  const BatchStream stream(source, {.batch_size = 100});
  for (int64_t epoch = 0; epoch < 1000; ++epoch) {
    const auto o = stream.at(epoch, 0).examples;
    ++counts[static_cast<size_t>(std::find(o.begin(), o.end(), 0) - o.begin())];
  }
  double chi2 = 0;
  for (const int64_t c : counts) chi2 += (static_cast<double>(c) - 10) * (static_cast<double>(c) - 10) / 10;
  EXPECT_LT(chi2, 99 + 5 * 14.07);  // 99 degrees of freedom, standard deviation sqrt(2 * 99): five of them
}

TEST(BatchStream, ResumesWithTheSameBatches) {
  const auto source = examples(57);
  for (const BatchOptions& o : {BatchOptions{.batch_size = 4}, BatchOptions{.tokens_per_batch = 40}}) {
    BatchStream whole(source, o);
    std::vector<Batch> batches;
    std::vector<std::string> saved;
    while (whole.position().epoch < 3) {
      saved.push_back(whole.save().dump());
      batches.push_back(whole.next());
    }
    for (size_t stop = 0; stop < batches.size(); ++stop) {
      BatchStream resumed(source, o);
      if (stop % 2) resumed.next();  // whatever was asked before
      resumed.restore(Json::parse(saved[stop]));
      for (size_t i = stop; i < std::min(stop + 20, batches.size()); ++i) {
        const Batch b = resumed.next();
        ASSERT_EQ(b.ids, batches[i].ids) << "stopped before " << stop << ", batch " << i;
        ASSERT_EQ(b.labels, batches[i].labels);
        ASSERT_EQ(b.segments.offsets(), batches[i].segments.offsets());
      }
    }
  }
}

TEST(BatchStream, RefusesToResumeOnOtherData) {
  BatchStream a(examples(57), {.batch_size = 4});
  const Json saved = a.save();
  BatchStream other_data(examples(58), {.batch_size = 4}), other_size(examples(57), {.batch_size = 5});
  expect_usage_error([&] { other_data.restore(saved); }, {"data position", "differ"});
  expect_usage_error([&] { other_size.restore(saved); }, {"data position", "differ"});
  expect_usage_error([&] { a.restore(Json::parse("{\"epoch\": 1}")); }, {"\"batch\""});
  expect_usage_error([&] { a.restore(Json::parse("[]")); }, {"\"epoch\""});
  Json bad = saved;
  bad["batch"] = 15;
  expect_usage_error([&] { a.restore(bad); }, {"no batch 15"});
  bad["batch"] = -1;
  expect_usage_error([&] { a.restore(bad); }, {"no batch -1"});
}

TEST(BatchStream, RefusesASampleThatNeverFits) {
  expect_usage_error([] { BatchStream(examples(20), {.tokens_per_batch = 9}); }, {"file:", "tokens_per_batch (9)"});
}

}  // namespace
}  // namespace molt::data
