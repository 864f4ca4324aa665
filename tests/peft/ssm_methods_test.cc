// Methods of what stands before, in and behind the scan: segments in one batch are as they are alone, spans go on where
// the last ended, networks are dropped without a trace, and what cannot be merged says why.
#include "tests/cases/methods.h"

namespace molt {
namespace {

using testing::golden_dir;
using testing::GoldenStream;
using testing::MethodCase;
using testing::relative_error;
using testing::TunedModel;

class SsmMethods : public ::testing::TestWithParam<MethodCase> {
 protected:
  const GoldenStream stream{io::SafetensorsFile(golden_dir(GetParam().model) + "/golden.safetensors")};

  TunedModel tuned() const {
    TunedModel t = testing::begin(GetParam(), Dtype::kF64);
    testing::disturb(t, 1, 0.2);
    return t;
  }
  /// Logits of tokens [begin, end) of the stream as one segment.
  Tensor span(const TunedModel& t, int64_t begin, int64_t end, const nn::Carry* in, nn::Carry* out) const {
    const NoGrad no_grad;
    const Segments one = Segments::one(end - begin);
    const nn::Context c{.segments = &one, .edits = &t.edits()};
    const std::vector<int32_t> ids(stream.ids.begin() + begin, stream.ids.begin() + end);
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < end - begin; ++i) rows.push_back(i);
    return t.model().logits(c, t.model().hidden(c, ids, in, out), rows).value();
  }
};

TEST_P(SsmMethods, EverySegmentStartsAlike) {
  const TunedModel t = tuned();
  const Tensor packed = t.logits(stream);
  for (int64_t s = 0; s < stream.segments.count(); ++s) {
    const int64_t begin = stream.segments.begin(s), end = stream.segments.end(s);
    EXPECT_LT(relative_error(span(t, begin, end, nullptr, nullptr), packed.row_range(begin, end - begin)), 1e-12) << s;
  }
}

// Decoding token by token, and prompts in chunks.
TEST_P(SsmMethods, SpansGoOnWhereTheLastEnded) {
  const TunedModel t = tuned();
  const int64_t begin = stream.segments.begin(3), end = stream.segments.end(3);
  const Tensor whole = span(t, begin, end, nullptr, nullptr);
  for (const int64_t step : {int64_t{1}, int64_t{5}}) {
    nn::Carry carry;
    for (int64_t at = begin; at < end; at += step) {
      const int64_t to = std::min(end, at + step);
      nn::Carry next;
      const Tensor part = span(t, at, to, at == begin ? nullptr : &carry, &next);
      EXPECT_LT(relative_error(part, whole.row_range(at - begin, to - at)), 1e-12) << "from token " << at - begin;
      carry = next;
    }
  }
}

TEST_P(SsmMethods, AdaptersHoldNoNetworks) {
  const TunedModel t = tuned();
  TunedModel fresh(GetParam().model, Dtype::kF64, GetParam().methods);
  for (size_t m = 0; m < t.method_count(); ++m) {
    io::NamedTensors kept;
    for (const auto& [name, tensor] : t.method(m).adapter_state()) {
      for (const char* part : {".embedding", ".up.", ".down."}) EXPECT_EQ(name.find(part), std::string::npos) << name;
      kept.emplace_back(name, tensor.clone());
    }
    fresh.method(m).load_state(kept);
    EXPECT_EQ(fresh.method(m).adapter_state().size(), kept.size());
  }
  fresh.bind();
  EXPECT_LT(relative_error(fresh.logits(stream), t.logits(stream)), 1e-14);
}

TEST_P(SsmMethods, WhatCannotBeMergedSaysWhy) {
  if (GetParam().merges) GTEST_SKIP() << "it merges";
  const TunedModel t = tuned();
  int refused = 0;
  for (const auto& [id, edit] : t.edits().all()) {
    const nn::Site& site = t.model().sites().all()[static_cast<size_t>(id)];
    if (site.kind == nn::SiteKind::kLinear) continue;  // LoRA's
    try {
      edit->merge(site, Tensor::zeros(site.shape, Dtype::kF64));
    } catch (const UsageError& error) {
      EXPECT_NE(std::string(error.what()).find(site.path), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("adapter"), std::string::npos) << error.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 0);
}

std::vector<MethodCase> on(const std::string& model) {
  std::vector<MethodCase> cases = testing::ssm_method_cases();
  for (MethodCase& c : cases) {
    c.model = model;
    c.name = model + "_" + c.name;
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Small, SsmMethods, ::testing::ValuesIn(on("tied_small")),
                         [](const auto& info) { return info.param.name; });
INSTANTIATE_TEST_SUITE_P(Odd, SsmMethods, ::testing::ValuesIn(on("untied_odd")),
                         [](const auto& info) { return info.param.name; });

TEST(SsmMethodOptions, AreRefusedByName) {
  const auto refused = [](const auto& make, const std::string& word) {
    try {
      make();
      ADD_FAILURE() << word << " went unnoticed";
    } catch (const UsageError& error) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
  };
  const Dtype f = Dtype::kF32;
  refused([=] { peft::InitialState({.encoder_hidden_size = -1}, 0, f); }, "encoder_hidden_size");
  refused([=] { peft::PrefixTuning({.num_virtual_tokens = 0}, 0, f); }, "num_virtual_tokens");
  refused([=] { peft::PrefixTuning({.init_std = -1}, 0, f); }, "init_std");
  refused([=] { peft::PromptTuning({.num_virtual_tokens = 0}, 0, f); }, "num_virtual_tokens");
  refused([=] { peft::PromptTuning({.prompt_tuning_init = "TEXT"}, 0, f); }, "prompt_tuning_init");
  refused([=] { peft::AdditionalScan({.extra_states = 0}, 0, f); }, "extra_states");
  refused([=] { peft::StateOffset({.offset = "x"}, 0, f); }, "offset");
  refused([=] { peft::StateOffset({.r = -1}, 0, f); }, "state_offset: r must be at least 0");
  const TunedModel plain("tied_small", f, {});
  const nn::SiteTable& sites = plain.model().sites();
  refused([&] { peft::StateOffset({.target_modules = {"tap.x"}}, 0, f).attach(sites); }, "tap.x");
  refused([&] { peft::AdditionalScan({.target_modules = {"D"}}, 0, f).attach(sites); }, "mixer.D");
  refused([&] { peft::PrefixTuning({.target_modules = {"h0"}}, 0, f).attach(sites); }, "matches nothing");
}

}  // namespace
}  // namespace molt
