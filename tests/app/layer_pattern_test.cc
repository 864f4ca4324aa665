// Names that differ in one number share a line.
#include "molt/app/layer_pattern.h"

#include <gtest/gtest.h>

namespace molt::app {
namespace {

TEST(LayerPattern, NumbersAsRuns) {
  EXPECT_EQ(number_pattern({3}), "3");
  EXPECT_EQ(number_pattern({0, 1}), "{0,1}");
  EXPECT_EQ(number_pattern({0, 1, 2, 3}), "{0..3}");
  EXPECT_EQ(number_pattern({0, 2, 3, 4, 9, 10}), "{0,2..4,9,10}");
}

TEST(LayerPattern, OnlyTheFirstNumberIsALayer) {
  // Sorted as text, 10 comes before 9.
  const std::vector<std::string> names = {"l.0.w",           "l.1.w",           "l.10.w", "l.9.w",
                                          "l.0.experts.0.w", "l.0.experts.1.w", "w1"};
  const auto groups = group_by_layer(names, std::vector<std::string>(names.size(), "f32"));
  ASSERT_EQ(groups.size(), 4u);
  EXPECT_EQ(groups[0].pattern, "l.{0,1,9,10}.w");
  EXPECT_EQ(groups[0].members, (std::vector<size_t>{0, 1, 2, 3}));
  EXPECT_EQ(groups[1].pattern, "l.0.experts.0.w");
  EXPECT_EQ(groups[3].pattern, "w1");
}

TEST(LayerPattern, KindsAreKeptApart) {
  const auto groups = group_by_layer({"l.0.w", "l.1.w", "l.2.w"}, {"a", "b", "a"});
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].pattern, "l.{0,2}.w");
  EXPECT_EQ(groups[1].pattern, "l.1.w");
}

}  // namespace
}  // namespace molt::app
