// What a recipe says about training, in the words of transformers' TrainingArguments where they have one.
#pragma once

#include <cstdint>
#include <string>

#include "molt/optim/adamw.h"
#include "molt/optim/schedule.h"

namespace molt::train {

struct TrainConfig {
  int64_t max_steps = 0;
  double num_train_epochs = 3;
  int64_t batch_size = 0;
  int64_t tokens_per_batch = 2048;
  int64_t gradient_accumulation_steps = 1;
  double learning_rate = 1e-3;
  optim::ScheduleConfig schedule;
  optim::AdamWConfig adamw;
  double max_grad_norm = 1;
  int64_t logging_steps = 1;
  int64_t eval_steps = 0;
  int64_t save_steps = 0;
  int64_t save_total_limit = 2;
  bool load_best_model_at_end = true;
  bool recompute = false;
  int64_t span_length = 0;
  std::string span_memory;
  bool truncated_backprop = false;

  template <class V>
  void visit(V& v) {
    v.field("max_steps", max_steps, "optimizer steps; 0: num_train_epochs decides");
    v.field("num_train_epochs", num_train_epochs, "passes over the training data");
    v.field("batch_size", batch_size, "examples per batch; 0: tokens_per_batch decides alone");
    v.field("tokens_per_batch", tokens_per_batch, "most tokens per batch; samples are packed, never padded");
    v.field("gradient_accumulation_steps", gradient_accumulation_steps, "batches per optimizer step");
    v.field("learning_rate", learning_rate, "peak learning rate of AdamW");
    schedule.visit(v);
    adamw.visit(v);
    v.field("max_grad_norm", max_grad_norm, "gradients are scaled down to this norm; 0: never");
    v.field("logging_steps", logging_steps, "steps between records in metrics.jsonl");
    v.field("eval_steps", eval_steps, "steps between evaluations; 0: once per epoch");
    v.field("save_steps", save_steps, "steps between checkpoints; 0: at each evaluation");
    v.field("save_total_limit", save_total_limit, "checkpoints kept");
    v.field("load_best_model_at_end", load_best_model_at_end, "the adapter is the one with the lowest validation loss");
    v.field(
        "recompute", recompute,
        "keep only each layer's input for the backward pass: less memory, more time; of samples that span_length cuts, "
        "spans keep nothing of their first pass instead");
    v.field(
        "span_length", span_length,
        "longer samples go through the model in spans of this many tokens that hand their state on: bounded memory, "
        "exact gradients, the forward pass twice; 0: whole batches at once");
    v.field(
        "span_memory", span_memory,
        "with span_length: most memory for what spans keep of their first pass for the second, such as 1GiB: results "
        "of products, then all activations; 0: nothing (default: half of what is available, at most 16GiB; what "
        "max_memory leaves)");
    v.field("truncated_backprop", truncated_backprop,
            "with span_length: gradients stop at the start of a span, which saves the second forward pass");
  }

  /// span_memory in bytes, or what is chosen where it does not say.
  int64_t span_bytes() const;

  /// Throws UsageError for a value out of range.
  void validate() const;
};

}  // namespace molt::train
