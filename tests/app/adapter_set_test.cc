// Several adapters on one base: a mixed batch continues prompts as runs one by one do, for every method; a weighted sum
// is the merge of that sum; what cannot stand beside others or be added is refused by name.
#include "molt/app/adapter_set.h"

#include <filesystem>

#include "molt/app/merge.h"
#include "molt/app/methods.h"
#include "molt/eval/generate.h"
#include "molt/nn/mixed_edits.h"
#include "tests/cases/golden.h"
#include "tests/cases/moved_adapter.h"

namespace molt {
namespace {

namespace fs = std::filesystem;
using testing::golden_dir;
using testing::GoldenStream;
using testing::relative_error;

#define EXPECT_SAYS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

const std::string kBase = golden_dir("tied_small") + "/checkpoint";

models::LoadedModel open_base() { return models::open_model(kBase, testing::all_in(Dtype::kF32)); }

class Adapters : public ::testing::Test {
 protected:
  Adapters() : dir_(fs::path(::testing::TempDir()) / ("molt_adapters_" + std::to_string(::getpid()))) {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  ~Adapters() override { fs::remove_all(dir_); }

  /// An adapter moved well away from nothing, saved under a name.
  std::string saved(const std::string& name, const std::string& yaml, uint64_t seed = 1) {
    testing::MovedAdapter(open_base(), yaml, 0.15f, seed, 5).save((dir_ / name).string(), kBase);
    return (dir_ / name).string();
  }
  std::string refusal(const std::vector<std::string>& texts) {
    try {
      models::LoadedModel base = open_base();
      std::vector<app::AdapterSpec> specs;
      for (const std::string& text : texts) specs.push_back(app::read_adapter_spec(text));
      app::AdapterSet set(specs, base, Dtype::kF32);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "opened";
  }
  fs::path dir_;
};

struct Opened {
  explicit Opened(const std::vector<std::string>& texts) : base(open_base()) {
    std::vector<app::AdapterSpec> specs;
    for (const std::string& text : texts) specs.push_back(app::read_adapter_spec(text));
    set = std::make_unique<app::AdapterSet>(specs, base, Dtype::kF32);
    models::load_weights(base);
    set->finish();
    for (size_t i = 0; i < set->size(); ++i) views.push_back({*base.model, &set->edits(i)});
    views.push_back({*base.model, nullptr});
  }
  models::LoadedModel base;
  std::unique_ptr<app::AdapterSet> set;
  std::vector<eval::ModelView> views;
};

TEST_F(Adapters, MixedInOneBatchGiveWhatTheyGiveAlone) {
  const std::vector<std::pair<std::string, bool>> methods = {
      // yaml, whether it acts by rows
      {"{lora: {r: 2, lora_alpha: 6, target_modules: [in_proj, 'x_proj:B', dt_proj, out_proj]}}", true},
      {"{lora: {r: 3, lora_alpha: 6, target_modules: [out_proj, embeddings, lm_head]}}", true},
      {"{lora: {r: 2, use_dora: true, target_modules: [in_proj, x_proj]}}", true},
      {"{ia3: {}}", true},
      {"{state_offset: {}}", true},
      {"{initial_state: {}}", true},
      {"[lora: {r: 2, target_modules: [in_proj]}, bitfit: {}]", false},
      {"{sdt: {warmup_steps: 1, freeze_channels: 0.5}}", false},
      {"{additional_scan: {}}", false},
      {"{prompt_tuning: {}}", false},
  };
  std::vector<std::string> texts;
  for (size_t i = 0; i < methods.size(); ++i)
    texts.push_back("m" + std::to_string(i) + "=" + saved("m" + std::to_string(i), methods[i].first, i + 1));
  const Opened opened(texts);
  for (size_t i = 0; i < methods.size(); ++i)
    EXPECT_EQ(nn::why_not_by_rows(opened.set->edits(i), opened.base.model->sites()).empty(), methods[i].second)
        << methods[i].first;

  std::vector<std::vector<int32_t>> prompts;
  std::vector<size_t> which;
  const auto vocabulary = static_cast<int32_t>(opened.base.model->plan().vocabulary);
  for (int32_t i = 0; i < 33; ++i) {
    prompts.emplace_back();
    for (int32_t t = 0; t <= i % 5 + 1; ++t) prompts.back().push_back((i * 7 + t * 11 + 3) % vocabulary);
    which.push_back(static_cast<size_t>(i * 5) % opened.views.size());
  }
  for (const int64_t beams : {1, 3}) {
    for (const int64_t batch : {1, 6, 64}) {
      const eval::GenerateConfig config{.max_new_tokens = 8, .num_beams = beams, .batch_size = batch};
      const auto together = eval::generate(opened.views, which, prompts, config);
      int different = 0;
      for (size_t i = 0; i < prompts.size(); ++i) {
        const auto alone = eval::generate(opened.views[which[i]], {prompts[i]}, config)[0];
        EXPECT_EQ(together[i], alone) << "prompt " << i << ", view " << which[i] << ", batch of " << batch;
        different += alone != eval::generate(opened.views.back(), {prompts[i]}, config)[0];
      }
      EXPECT_GT(different, 10);  // the adapters matter
    }
  }
  // Sampling: what is drawn depends on the sequence's number, not on what else is in the batch.
  eval::GenerateConfig sampled{.max_new_tokens = 6, .temperature = 1, .batch_size = 64};
  const auto wide = eval::generate(opened.views, which, prompts, sampled);
  sampled.batch_size = 1;
  EXPECT_EQ(eval::generate(opened.views, which, prompts, sampled), wide);
}

TEST_F(Adapters, MixedLogitsAreThoseOfEachAlone) {
  const Opened opened({"a=" + saved("a", "{lora: {r: 2, target_modules: [in_proj, x_proj, out_proj, embeddings]}}"),
                       "b=" + saved("b", "[lora: {r: 3, target_modules: [dt_proj]}, state_offset: {}, ia3: {}]", 2),
                       "c=" + saved("c", "{initial_state: {}}", 3)});
  const nn::LanguageModel& model = *opened.base.model;
  const Segments segments({0, 3, 4, 9, 11, 12});
  std::vector<int32_t> ids;
  for (int32_t t = 0; t < 12; ++t) ids.push_back((t * 13 + 2) % static_cast<int32_t>(model.plan().vocabulary));
  const std::vector<size_t> of = {0, 0, 3, 1, 2};  // 3: the plain base
  const std::vector<nn::EditRun> runs = {
      {opened.views[0].edits, 2}, {nullptr, 1}, {opened.views[1].edits, 1}, {opened.views[2].edits, 1}};
  const nn::EditSet mixed = nn::mixed_edits(model.sites(), segments, runs);
  const NoGrad no_grad;
  nn::Context together{.segments = &segments, .edits = &mixed};
  const auto all_rows = [](int64_t n) {
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < n; ++i) rows.push_back(i);
    return rows;
  };
  const Tensor got = model.logits(together, model.hidden(together, ids), all_rows(12)).value();
  for (int64_t s = 0; s < segments.count(); ++s) {
    const Segments one = Segments::one(segments.length(s));
    nn::Context alone{.segments = &one, .edits = opened.views[of[static_cast<size_t>(s)]].edits};
    const std::vector<int32_t> own(ids.begin() + segments.begin(s), ids.begin() + segments.end(s));
    const Tensor expected = model.logits(alone, model.hidden(alone, own), all_rows(one.tokens())).value();
    // f32: a product over other rows may sum in another order.
    EXPECT_LT(relative_error(got.row_range(segments.begin(s), one.tokens()).clone(), expected), 1e-6) << s;
  }
}

TEST_F(Adapters, AWeightedSumIsTheMergeOfThatSum) {
  const std::string a = saved("a", "{lora: {r: 2, target_modules: [in_proj, 'x_proj:B', out_proj]}}"),
                    b = saved("b", "{lora: {r: 3, use_rslora: true, target_modules: [x_proj, out_proj]}}", 2);
  const GoldenStream stream{io::SafetensorsFile(golden_dir("tied_small") + "/golden.safetensors")};
  const auto logits = [&](const nn::LanguageModel& model, const nn::EditSet* edits) {
    const NoGrad no_grad;
    const nn::Context c{.segments = &stream.segments, .edits = edits};
    return model.logits(c, model.hidden(c, stream.ids), stream.rows).value();
  };
  Opened sum({a + ":0.5+" + b + ":-0.75"});
  const Tensor summed = logits(*sum.base.model, &sum.set->edits(0));
  app::write_merged(sum.base, sum.set->edits(0), (dir_ / "merged").string(), "f32", "");
  models::LoadedModel merged = models::open_model((dir_ / "merged").string(), testing::all_in(Dtype::kF32));
  models::load_weights(merged);
  EXPECT_LT(relative_error(logits(*merged.model, nullptr), summed), 1e-5);

  // And what the weights say, from merged weights: W + 0.5 (Wa - W) - 0.75 (Wb - W).
  const auto weight = [&](const std::string& adapter, const std::string& name) {
    Opened one({adapter});
    app::write_merged(one.base, one.set->edits(0), (dir_ / "one").string(), "f32", "");
    return io::SafetensorsFile((dir_ / "one/model.safetensors").string()).tensor(name).values();
  };
  for (const char* part : {"in_proj", "x_proj", "out_proj"}) {
    const std::string name = std::string("backbone.layers.1.mixer.") + part + ".weight";
    const auto base = io::Checkpoint(kBase).tensor(name).values(), wa = weight(a, name), wb = weight(b, name),
               got = io::SafetensorsFile((dir_ / "merged/model.safetensors").string()).tensor(name).values();
    for (size_t i = 0; i < base.size(); ++i)
      ASSERT_NEAR(got[i], base[i] + 0.5 * (wa[i] - base[i]) - 0.75 * (wb[i] - base[i]), 1e-6) << name << " " << i;
  }
  // Weight 1 and one part: the adapter itself, bit for bit.
  const Opened alone({a}), named({"x=" + a + ":1"});
  EXPECT_EQ(logits(*alone.base.model, &alone.set->edits(0)).values(),
            logits(*named.base.model, &named.set->edits(0)).values());
}

// On a tied model as well, where a change of the look-up alone is refused for another reason.
TEST_F(Adapters, WhatCannotBeMergedSaysWhy) {
  const auto why_not = [&](const std::string& yaml) {
    Opened one({saved("one", yaml)});
    try {
      app::write_merged(one.base, one.set->edits(0), (dir_ / "merged").string(), "f32", "");
    } catch (const UsageError& error) {
      EXPECT_FALSE(fs::exists(dir_ / "merged")) << yaml;
      return std::string(error.what());
    }
    return std::string("merged");
  };
  EXPECT_SAYS(why_not("{prompt_tuning: {}}"), "learned embeddings before the tokens are no weight of a checkpoint");
  EXPECT_SAYS(why_not("{prefix_tuning: {}}"), "learned rows before a layer are no weight of a checkpoint");
  EXPECT_SAYS(why_not("{initial_state: {}}"), "a learned initial state is no weight of a checkpoint");
  EXPECT_SAYS(why_not("{state_offset: {}}"), "an offset behind the scan is no weight of a checkpoint");
  EXPECT_SAYS(why_not("{additional_scan: {}}"), "change the model's state_size");
  EXPECT_SAYS(why_not("{bitfit: {target_modules: [x_proj]}}"), "has no bias in this model");
  EXPECT_SAYS(why_not("{lora: {target_modules: [embeddings]}}"), "the head's and the embedding's at once");
}

TEST_F(Adapters, SpecsAreReadAsTheyAreMeant) {
  const std::string odd = (dir_ / "x=y:2+z").string();
  fs::create_directories(odd);
  EXPECT_EQ(app::read_adapter_spec(odd).parts[0].directory, odd);
  EXPECT_EQ(app::read_adapter_spec("n=" + odd).name, "n");
  EXPECT_EQ(app::read_adapter_spec("n=" + odd).parts[0].directory, odd);
  const app::AdapterSpec sum = app::read_adapter_spec("mix=p/a:0.25+p/b:-2+c");
  EXPECT_EQ(sum.name, "mix");
  ASSERT_EQ(sum.parts.size(), 3u);
  EXPECT_EQ(sum.parts[0].directory, "p/a");
  EXPECT_EQ(sum.parts[0].weight, 0.25);
  EXPECT_EQ(sum.parts[1].weight, -2);
  EXPECT_EQ(sum.parts[2].weight, 1);
  for (const char* text : {"=a", "n=", "a+", "a:nan", "a:inf", "none=a"})
    EXPECT_THROW(app::read_adapter_spec(text), UsageError) << text;
}

TEST_F(Adapters, WhatCannotStandTogetherIsRefused) {
  const std::string lora = saved("lora", "{lora: {r: 2, target_modules: [in_proj]}}"),
                    dora = saved("dora", "{lora: {r: 2, use_dora: true, target_modules: [in_proj]}}"),
                    sdt = saved("sdt", "{sdt: {warmup_steps: 1, freeze_channels: 0.5}}"),
                    full = saved("full", "{full: {train: [A_log]}}");
  EXPECT_EQ(refusal({"a=" + lora, "b=" + sdt}), "opened");
  EXPECT_EQ(refusal({full}), "opened");
  EXPECT_SAYS(refusal({lora, "b=" + sdt}), "name");
  EXPECT_SAYS(refusal({"a=" + lora, "a=" + sdt}), "two are called 'a'");
  EXPECT_SAYS(refusal({"a=" + lora, "b=" + full}), "full");
  EXPECT_SAYS(refusal({lora + "+" + sdt}), "sdt");
  EXPECT_SAYS(refusal({dora + ":0.5"}), "use_dora");
  EXPECT_SAYS(refusal({lora + ":0.5x"}), "0.5x");
}

}  // namespace
}  // namespace molt
