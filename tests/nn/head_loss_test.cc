// The head's loss in chunks: the same as all rows at once, whatever the number of rows.
#include <algorithm>

#include "molt/ops/cross_entropy.h"
#include "tests/cases/golden.h"

namespace molt {
namespace {

using testing::random_tensor;
using testing::relative_error;

constexpr int64_t kRows = 1300;  // more than a chunk has, and no multiple of one

/// A model of no interest but for its head; some rows have no label.
std::unique_ptr<nn::LanguageModel> small_model(bool train_head) {
  nn::LanguageModelPlan plan;
  plan.family = "mamba";
  plan.vocabulary = 30;
  plan.d_model = 8;
  plan.layers.assign(1, {{.d_model = 8, .d_inner = 16, .d_state = 4, .d_conv = 4, .dt_rank = 1}});
  auto model = std::make_unique<nn::LanguageModel>(plan, testing::all_in(Dtype::kF64));
  for (nn::Parameter& p : model->parameters()) {
    p.trained = train_head && p.lookup;
    p.set(models::kMamba.initial(p, plan, 5), model->precision(), true);
  }
  return model;
}

std::vector<int32_t> some_labels() {
  std::vector<int32_t> labels;
  for (int64_t t = 0; t < kRows; ++t) labels.push_back(t % 7 == 3 ? -100 : static_cast<int32_t>(t * t % 30));
  return labels;
}

const nn::Parameter& table(const nn::LanguageModel& model) {
  return *std::find_if(model.parameters().begin(), model.parameters().end(),
                       [](const nn::Parameter& p) { return p.lookup; });
}

TEST(HeadLoss, InChunksIsThatOfAllRowsAtOnce) {
  for (const bool train_head : {false, true}) {
    SCOPED_TRACE(train_head ? "the head trains" : "the head rests");
    const Tensor x = random_tensor({kRows, 8}, 1);
    const std::vector<int32_t> labels = some_labels();
    const Segments segments = Segments::one(kRows);
    const nn::Context c{.segments = &segments, .training = true};

    const auto chunked = small_model(train_head);
    const Var in = Var::leaf(x.clone());
    const nn::LossSum loss = chunked->loss(c, in, labels);
    backward(loss.sum);

    const auto whole = small_model(train_head);
    std::vector<int64_t> rows;
    std::vector<int32_t> kept;
    for (int64_t t = 0; t < kRows; ++t) {
      if (labels[static_cast<size_t>(t)] < 0) continue;
      rows.push_back(t);
      kept.push_back(labels[static_cast<size_t>(t)]);
    }
    const Var same = Var::leaf(x.clone());
    const Var sum = ops::cross_entropy(whole->logits(c, same, rows), kept);
    backward(sum);

    EXPECT_EQ(loss.count, static_cast<int64_t>(kept.size()));
    // f64 throughout, so only the order of sums over a thousand rows differs.
    EXPECT_LT(relative_error(loss.sum.value(), sum.value()), 1e-13);
    EXPECT_LT(relative_error(in.grad(), same.grad()), 1e-13);
    for (int64_t t = 3; t < kRows; t += 7) {
      for (int64_t i = 0; i < 8; ++i) ASSERT_EQ(in.grad().data<double>()[t * 8 + i], 0) << "row without a label";
    }
    ASSERT_EQ(table(*chunked).var.grad().defined(), train_head);
    if (train_head) {
      EXPECT_LT(relative_error(table(*chunked).var.grad(), table(*whole).var.grad()), 1e-12);
    }
  }
}

TEST(HeadLoss, NothingLabelledIsNoLoss) {
  const auto model = small_model(false);
  const Segments segments = Segments::one(4);
  const nn::LossSum loss =
      model->loss({.segments = &segments, .training = true}, Var(random_tensor({4, 8}, 1)), {-100, -100, -100, -100});
  EXPECT_EQ(loss.count, 0);
  EXPECT_FALSE(loss.sum.defined());
}

}  // namespace
}  // namespace molt
