// What target strings mean, and how those that mean nothing are refused.
#include "molt/peft/targets.h"

#include "tests/cases/methods.h"

namespace molt {
namespace {

using testing::full_on;
using testing::lora_on;
using testing::MakeMethod;
using testing::TunedModel;

std::vector<std::string> labels(const std::vector<std::string>& targets) {
  const TunedModel model("tied_small", Dtype::kF32, {});
  std::vector<std::string> found;
  for (const nn::Target& t : peft::resolve_targets(model.model().sites(), targets, {nn::SiteKind::kLinear}))
    found.push_back(t.label());
  return found;
}

std::string refusal(const MakeMethod& method) {
  try {
    TunedModel("tied_small", Dtype::kF32, {method});
  } catch (const UsageError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

using Labels = std::vector<std::string>;

TEST(Targets, NamesPathsExpressionsAndSlices) {
  const std::string l0 = "backbone.layers.0.mixer.", l1 = "backbone.layers.1.mixer.";
  EXPECT_EQ(labels({"x_proj"}), (Labels{l0 + "x_proj", l1 + "x_proj"}));
  EXPECT_EQ(labels({"mixer.x_proj"}), (Labels{l0 + "x_proj", l1 + "x_proj"}));
  EXPECT_EQ(labels({l1 + "x_proj"}), (Labels{l1 + "x_proj"}));
  EXPECT_EQ(labels({".*layers\\.1\\..*proj"}),
            (Labels{l1 + "in_proj", l1 + "x_proj", l1 + "dt_proj", l1 + "out_proj"}));
  EXPECT_EQ(labels({"x_proj:C", "x_proj:B"}),
            (Labels{l0 + "x_proj:B", l0 + "x_proj:C", l1 + "x_proj:B", l1 + "x_proj:C"}));
  EXPECT_EQ(labels({"in_proj", "in_proj"}), (Labels{l0 + "in_proj", l1 + "in_proj"}));
  EXPECT_EQ(labels({"all-linear"}).size(), 8u);  // not the head
  EXPECT_EQ(labels({"lm_head"}), (Labels{"lm_head"}));
  // A name is not a piece of another name: "proj" ends "x_proj" without a dot before it.
  EXPECT_THROW(labels({"proj"}), UsageError);
}

TEST(Targets, PresetsMeanLinearsOfAPart) {
  const std::string l0 = "backbone.layers.0.mixer.", l1 = "backbone.layers.1.mixer.";
  EXPECT_EQ(labels({"ssm"}), (Labels{l0 + "x_proj", l0 + "dt_proj", l1 + "x_proj", l1 + "dt_proj"}));
  EXPECT_EQ(labels({"in_out"}), (Labels{l0 + "in_proj", l0 + "out_proj", l1 + "in_proj", l1 + "out_proj"}));
  EXPECT_EQ(labels({"mixer"}), labels({"all-linear"}));  // Mamba has nothing else
  EXPECT_EQ(labels({"in_out", "ssm"}), labels({"mixer"}));
  EXPECT_EQ(labels({"ssm:B"}), (Labels{l0 + "x_proj:B", l1 + "x_proj:B"}));
  const TunedModel model("tied_small", Dtype::kF32, {});
  std::string names;
  for (const nn::Preset& p : nn::presets_of(model.model().sites())) names += p.name + std::string(" ");
  EXPECT_EQ(names, "all-linear mixer ssm in_out ");
  // Presets without such parts are refused with those that have some, and so are slices that none of them has.
  for (const auto& [target, text] : {std::pair<std::string, std::string>{"attention", "this model has no such part"},
                                     {"mlp", "this model has no such part"},
                                     {"mixer:q", "no such part or slice"}}) {
    const std::string message = refusal(lora_on({target}));
    EXPECT_NE(message.find("'" + target + "'"), std::string::npos) << message;
    EXPECT_NE(message.find(text), std::string::npos) << message;
    EXPECT_NE(message.find("all-linear, mixer, ssm, in_out"), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
  EXPECT_NE(refusal(testing::with<peft::Residual>({.target_modules = {"ssm"}})).find("presets are of linears only"),
            std::string::npos);
}

TEST(Targets, WhatMatchesNothingIsRefusedWithNearNames) {
  struct Wrong {
    MakeMethod method;
    std::string target, near;
  };
  for (const Wrong& wrong : std::vector<Wrong>{{lora_on({"in_porj"}), "in_porj", "in_proj"},
                                               {lora_on({"xproj:B"}), "xproj:B", "x_proj:B"},
                                               {lora_on({"x_proj:D"}), "x_proj:D", "x_proj:B"},
                                               {lora_on({"in_proj", "q_proj"}), "q_proj", "x_proj"},
                                               {lora_on({"tap.y"}), "tap.y", "near names"},
                                               {lora_on({"mixer("}), "mixer(", "proj"},
                                               {full_on({"A_logs"}), "A_logs", "A_log"},
                                               {full_on({"norms"}), "norms", "near names"}}) {
    const std::string message = refusal(wrong.method);
    EXPECT_NE(message.find("'" + wrong.target + "'"), std::string::npos) << message;
    EXPECT_NE(message.find(wrong.near), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
}

TEST(Targets, EmptyAndOverlappingListsAreRefused) {
  EXPECT_NE(refusal(lora_on({})).find("target_modules"), std::string::npos);
  EXPECT_NE(refusal(lora_on({"x_proj", "x_proj:B"})).find("x_proj"), std::string::npos);
  EXPECT_NE(refusal(lora_on({"x_proj", "x_proj:B"})).find("whole and by slice"), std::string::npos);
  EXPECT_NE(refusal(full_on({"x_proj:B"})).find("slice"), std::string::npos);
}

TEST(Targets, CoverageCountsSitesAndLayers) {
  const TunedModel model("untied_odd", Dtype::kF32, {});
  const auto& sites = model.model().sites();
  auto coverage = [&](const std::vector<std::string>& targets) {
    return peft::coverage(sites, peft::resolve_targets(sites, targets, {nn::SiteKind::kLinear}));
  };
  EXPECT_EQ(coverage({"in_proj", "x_proj"}), "6 sites in 3 of 3 layers");
  EXPECT_EQ(coverage({"x_proj:B", "x_proj:C"}), "3 sites in 3 of 3 layers");
  EXPECT_EQ(coverage({"backbone.layers.2.mixer.in_proj"}), "1 site in 1 of 3 layers");
}

TEST(MethodOptions, OutOfRangeIsRefused) {
  auto lora = [](peft::LoraConfig config) {
    config.target_modules = {"x_proj"};
    return refusal([=](Dtype dtype) { return std::make_unique<peft::Lora>(config, 1, dtype); });
  };
  EXPECT_NE(lora({.r = 0}).find("r must be at least 1"), std::string::npos);
  EXPECT_NE(lora({.alternate = -1}).find("alternate"), std::string::npos);
  EXPECT_NE(lora({.lora_dropout = 1}).find("lora_dropout"), std::string::npos);
  EXPECT_NE(lora({.lora_dropout = -0.1}).find("lora_dropout"), std::string::npos);
  EXPECT_NE(lora({.lora_dropout = std::nan("")}).find("lora_dropout"), std::string::npos);
  EXPECT_NE(lora({.rank_pattern = {{"x_proj", 0}}}).find("rank_pattern"), std::string::npos);
  EXPECT_NE(lora({.rank_pattern = {{"x_proj(", 2}}}).find("rank_pattern"), std::string::npos);
  EXPECT_NE(lora({.alpha_pattern = {{"[", 2}}}).find("alpha_pattern"), std::string::npos);

  EXPECT_NE(lora({.init_lora_weights = "eva", .eva_batches = 0}).find("eva_batches"), std::string::npos);
  EXPECT_NE(refusal(testing::with<peft::Lora>({.init_lora_weights = "eva", .target_modules = {"A_log"}}))
                .find("linear's input"),
            std::string::npos);
  auto prodial = [](const peft::ProdialConfig& config) { return refusal(testing::with<peft::Prodial>(config)); };
  EXPECT_NE(prodial({.r = 0}).find("r must be at least 1"), std::string::npos);
  EXPECT_NE(prodial({.block_size = 0}).find("block_size must be at least 1"), std::string::npos);
  EXPECT_NE(prodial({.target_modules = {"in_proj:x"}}).find("is a slice"), std::string::npos);
  auto diffora = [](const peft::DifforaConfig& config) { return refusal(testing::with<peft::Diffora>(config)); };
  EXPECT_NE(diffora({.r = 0}).find("r must be at least 1"), std::string::npos);
  EXPECT_NE(diffora({.keep = 1.5}).find("keep must be a share"), std::string::npos);
  EXPECT_NE(diffora({.keep = std::nan("")}).find("keep must be a share"), std::string::npos);
  EXPECT_NE(diffora({.warmup_steps = 0}).find("warmup_steps"), std::string::npos);

  auto boft = [](const peft::BoftConfig& config) { return refusal(testing::with<peft::Boft>(config)); };
  EXPECT_NE(boft({.boft_block_size = 4, .boft_block_num = 4}).find("one of boft_block_size"), std::string::npos);
  EXPECT_NE(boft({.boft_block_size = 5}).find("does not divide the 16 inputs"), std::string::npos);
  EXPECT_NE(boft({.boft_block_size = 1}).find("nothing to rotate"), std::string::npos);
  EXPECT_NE(boft({.boft_n_butterfly_factor = 0}).find("from 1 to 32"), std::string::npos);
  EXPECT_NE(boft({.boft_n_butterfly_factor = 4}).find("needs a multiple of 8 blocks"), std::string::npos);
  EXPECT_NE(boft({.target_modules = {"x_proj:B"}}).find("is a slice"), std::string::npos);

  auto sdt = [](const peft::SdtConfig& config) {
    return refusal([=](Dtype dtype) { return std::make_unique<peft::Sdt>(config, dtype); });
  };
  EXPECT_NE(sdt({.warmup = "everything"}).find("warmup"), std::string::npos);
  EXPECT_NE(sdt({.criterion = "size"}).find("criterion"), std::string::npos);
  EXPECT_NE(sdt({.warmup_steps = 0}).find("warmup_steps"), std::string::npos);
  EXPECT_NE(sdt({.freeze_channels = -1}).find("freeze_channels"), std::string::npos);
  EXPECT_NE(sdt({.freeze_channels = std::nan("")}).find("freeze_channels"), std::string::npos);
  EXPECT_NE(sdt({.freeze_states = 1.5}).find("freeze_states must be a share"), std::string::npos);
  EXPECT_NE(sdt({.freeze_channels = 32}).find("none of 32 channels"), std::string::npos);
  EXPECT_NE(sdt({.freeze_channels = 0.99}).find("none of 32 channels"), std::string::npos);
  EXPECT_NE(sdt({.freeze_channels = 0.9, .freeze_states = 4}).find("none of 4 states"), std::string::npos);
}

}  // namespace
}  // namespace molt
