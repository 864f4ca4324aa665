// Made-up runs for the report's tests and for looking at its pages. The numbers come from formulas and mean nothing.
#pragma once

#include <cmath>
#include <string>

#include "molt/base/rng.h"
#include "molt/base/str.h"
#include "molt/train/report.h"

namespace molt::train {

inline StepRecord example_step(int64_t step, int64_t steps, double floor, uint64_t seed) {
  const Rng rng(seed);
  const auto at = static_cast<uint64_t>(step);
  const double t = static_cast<double>(step) / static_cast<double>(steps), warm = std::min(1.0, t / 0.06);
  StepRecord r;
  r.step = step;
  r.epoch = 3 * t;
  r.loss =
      floor + 2.1 * std::exp(-9 * t) + 0.25 * std::exp(-2 * t) + 0.07 * rng.normal(2 * at) * (1 + std::exp(-5 * t));
  r.lr = 2e-3 * warm * (t < 0.06 ? 1 : 0.5 * (1 + std::cos(3.14159 * (t - 0.06) / 0.94)));
  r.grad_norm = (0.4 + 2.2 * std::exp(-12 * t)) * std::exp(0.25 * rng.normal(2 * at + 1));
  r.tokens = 2048;
  r.labelled_tokens = 610;
  r.tokens_per_second = 6200 * (1 + 0.02 * rng.normal(7000000 + at)) * (step == 1 ? 0.4 : 1);
  r.seconds = static_cast<double>(step) * 2048 / 6200;
  r.memory_mib = 1840;
  return r;
}

inline std::vector<MetricsRecord> example_log(int64_t steps, double floor, uint64_t seed) {
  std::vector<MetricsRecord> log;
  log.push_back(NoteRecord{0, "SDT: 125 warm-up batches chose 96 of 1536 channels and 4 of 16 states per layer"});
  for (int64_t step = 1; step <= steps; ++step) {
    log.push_back(example_step(step, steps, floor, seed));
    if (step % (steps / 12) != 0) continue;
    const double t = static_cast<double>(step) / static_cast<double>(steps);
    const double wiggle = 0.012 * Rng(seed + 1).normal(static_cast<uint64_t>(step));
    const double loss = floor + 0.08 + 0.9 * std::exp(-6 * t) + 0.07 * t * t + wiggle;
    log.push_back(
        EvalRecord{step,
                   "validation",
                   {{"loss", loss}, {"bleu", 0.51 - 0.2 * (loss - floor)}, {"rougeL", 0.62 - 0.15 * (loss - floor)}}});
  }
  log.push_back(NoteRecord{steps, "3 samples longer than 512 tokens were cut"});
  return log;
}

inline const char* const kExampleRecipe =
    "model: state-spaces/mamba-130m-hf  # 24 layers\n"
    "data:\n  train: dart/train.jsonl\n  validation: dart/dev.jsonl\n  max_tokens: 512\n"
    "methods:\n  - type: sdt\n    channels: 0.0625\n    states: 0.25\n    warmup_batches: 125\n"
    "  - type: lora\n    r: 8\n    lora_alpha: 16\n    target_modules: [mixer.in_proj, \"mixer.x_proj:B\", "
    "mixer.out_proj]\n"
    "optim:\n  learning_rate: 2e-3\n  lr_scheduler_type: cosine\n  warmup_ratio: 0.06\n  max_grad_norm: 1.0\n"
    "# derived\nseed: 42\nbase_dtype: bf16\n";

inline RunReport example_report(int64_t steps = 1200) {
  RunReport r;
  r.title = "DART: sentences from triples";
  r.created = "2025-03-01T12:00:00Z";
  r.status = "finished";
  r.model = "mamba-130m";
  r.method = "SDT + LoRA r=8";
  r.task = "data to text";
  r.trainable_parameters = 1228800;
  r.total_parameters = 130363904;
  r.base_parameters = 129135104;
  r.score_name = "bleu";
  add_metrics(r, example_log(steps, 1.12, 7));
  r.samples = {{"Mars Hill College | joined | 1973\nMars Hill College | location | Mars Hill, North Carolina",
                "Mars Hill College in Mars Hill, North Carolina, joined in 1973.",
                "Mars Hill College in Mars Hill, North Carolina, joined in 1973.", true},
               {"The Eagle | food | French\nThe Eagle | area | riverside\nThe Eagle | price range | cheap",
                "The Eagle is a cheap French restaurant in the riverside area.",
                "The Eagle is a moderately priced French pub near the riverside area.", false},
               {"Alan Bean | birth place | Wheeler, Texas\nAlan Bean | mission | Apollo 12",
                "Alan Bean, born in Wheeler, Texas, flew on Apollo 12.",
                "Alan Bean was born in Wheeler, Texas and was a crew member of Apollo 12.", false},
               {"<script>alert('prompt')</script> & \"quotes\"", "Nothing runs & everything shows.",
                "Nothing runs & everything shows.", true}};
  r.recipe = kExampleRecipe;
  r.environment = {{"Molt", "0.1.0"},
                   {"Host", "node-07"},
                   {"Processor", "Intel(R) Xeon(R) Platinum 8488C"},
                   {"Instructions", "AVX-512, AMX (bf16, int8)"},
                   {"Threads", "8 of 8 usable cores"},
                   {"Memory limit", "24.0 GiB (cgroup v2)"},
                   {"Precision", "base bf16, compute bf16"},
                   {"Seed", "42"}};
  return r;
}

inline ComparisonReport example_comparison() {
  ComparisonReport c;
  c.title = "Seven ways to adapt Mamba-130M to DART";
  c.created = "2025-03-01T18:30:00Z";
  c.model = "mamba-130m";
  c.task = "data to text";
  c.score_name = "bleu";
  c.recipe = kExampleRecipe;
  c.environment = example_report(24).environment;
  struct Row {
    const char *name, *detail;
    int64_t trainable;
    double floor, score;
  };
  const Row rows[] = {{"Full", "every weight", 129135360, 1.10, 0.498},
                      {"SDT + LoRA", "A_log channels; out_proj r=8", 1228800, 1.12, 0.507},
                      {"LoRA r=8", "in_proj, x_proj, out_proj", 1720320, 1.14, 0.496},
                      {"DoRA r=8", "in_proj, out_proj", 1498000, 1.15, 0.493},
                      {"BitFit", "conv1d and dt_proj biases", 73728, 1.29, 0.431},
                      {"Prompt tuning", "16 rows", 12288, 1.47, 0.352},
                      {"Initial state", "h0 of every layer", 589824, 1.22, 0.462}};
  uint64_t seed = 100;
  for (const Row& row : rows) {
    RunReport run;
    run.score_name = "bleu";
    add_metrics(run, example_log(600, row.floor, seed += 10));
    MethodResult m;
    m.name = row.name;
    m.detail = row.detail;
    m.trainable_parameters = row.trainable;
    m.total_parameters = std::max<int64_t>(129135360, 129135360 + (row.trainable < 129135360 ? row.trainable : 0));
    m.scores = {{"bleu", row.score}, {"rougeL", row.score + 0.12}};
    m.eval_loss = row.floor + 0.13;
    m.seconds = 700 * (row.trainable > 100000000 ? 1.9 : 1 + 0.05 * static_cast<double>(seed % 30) / 10);
    m.peak_memory_bytes = static_cast<int64_t>((row.trainable > 100000000 ? 3.1 : 1.55) * (1 << 30)) +
                          static_cast<int64_t>(seed) * 400000;
    m.tokens_per_second = 1228800 / m.seconds;
    m.train_loss = run.train_loss;
    m.eval_loss_curve = run.eval_loss.at(0).points;
    m.link = str("run-", seed, "/report.html");
    c.methods.push_back(m);
  }
  MethodResult failed;
  failed.name = "Prefix";
  failed.detail = "16 rows per layer";
  failed.failure = "stopped at step 40: the loss is not finite; try a smaller learning rate";
  c.methods.push_back(failed);
  return c;
}

}  // namespace molt::train
