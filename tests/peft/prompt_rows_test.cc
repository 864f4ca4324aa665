// Prompts that start from the vocabulary hold rows of the table, wherever the model keeps it.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/cases/methods.h"

namespace molt {
namespace {

TEST(PromptRows, AreThoseOfTheTable) {
  const testing::MakeMethod prompt =
      testing::with<peft::PromptTuning>({.num_virtual_tokens = 4, .prompt_tuning_init = "SAMPLE_VOCAB"});
  for (const char* golden : {"tied_small", "untied_odd"}) {  // tied: in the head's packed copy; untied: as it came
    SCOPED_TRACE(golden);
    const testing::TunedModel t(golden, Dtype::kF32, {prompt});
    const std::vector<nn::Trainable> trainables = t.trainables();
    ASSERT_EQ(trainables.size(), 1u);
    const Tensor rows = trainables[0].var.value();
    const Tensor table = t.checkpoint().tensor("backbone.embeddings.weight").to(Dtype::kF32);
    ASSERT_EQ(rows.rows(), 4);
    for (int64_t m = 0; m < rows.rows(); ++m) {
      const std::vector<double> row = rows.row_range(m, 1).values();
      bool found = false;
      for (int64_t v = 0; v < table.rows() && !found; ++v) found = table.row_range(v, 1).values() == row;
      EXPECT_TRUE(found) << "row " << m << " is none of the table";
    }
  }
}

}  // namespace
}  // namespace molt
