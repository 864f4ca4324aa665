// Grouping of targets by layer.
#include "molt/app/site_groups.h"

#include <gtest/gtest.h>

#include "molt/base/error.h"

namespace molt::app {
namespace {

nn::Site site(const std::string& path, int layer, Shape shape) {
  nn::Site s;
  s.path = path;
  s.layer = layer;
  s.shape = std::move(shape);
  s.kind = nn::SiteKind::kLinear;
  return s;
}

TEST(SiteGroups, OnlyAlikeSitesShareALine) {
  nn::SiteTable sites;
  sites.add(site("embeddings", -1, {7, 4}));
  sites.add(site("layers.0.proj", 0, {8, 4}));
  sites.add(site("layers.1.proj", 1, {8, 4}));
  sites.add(site("layers.2.proj", 2, {6, 4}));   // another shape
  sites.add(site("layers.3.other", 3, {8, 4}));  // another name
  const auto groups = group_sites(sites);
  ASSERT_EQ(groups.size(), 4u);
  EXPECT_EQ(groups[0].pattern, "embeddings");
  EXPECT_EQ(groups[1].pattern, "layers.{0,1}.proj");
  EXPECT_EQ(groups[1].count, 2);
  EXPECT_EQ(groups[2].pattern, "layers.2.proj");
  EXPECT_EQ(groups[3].pattern, "layers.3.other");
}

TEST(SiteGroups, SlicesKeepTheirName) {
  nn::SiteTable sites;
  for (int i = 0; i < 3; ++i) {
    nn::Site s = site("l." + std::to_string(i) + ".x_proj", i, {9, 4});
    s.slices = {{"dt", 0, 1}, {"B", 1, 4}, {"C", 5, 4}};
    sites.add(s);
  }
  const auto groups = group_targets(nn::match_target(sites, "x_proj:C", {nn::SiteKind::kLinear}));
  ASSERT_EQ(groups.size(), 1u);
  EXPECT_EQ(groups[0].pattern, "l.{0..2}.x_proj:C");
  EXPECT_EQ(groups[0].first.begin(), 5);
}

}  // namespace
}  // namespace molt::app
