#include "molt/train/config.h"

#include <algorithm>
#include <cmath>

#include "molt/base/error.h"
#include "molt/base/format.h"
#include "molt/base/system.h"

namespace molt::train {

int64_t TrainConfig::span_bytes() const {
  if (span_memory.empty()) {
    // Enough for the products of 65,536 tokens of a model of 130 million; a large one would ask for any amount.
    constexpr int64_t kMost = int64_t{16} << 30;
    return std::min(kMost, available_memory() / 2);
  }
  const std::optional<int64_t> bytes = parse_bytes(span_memory);
  if (!bytes)
    usage_error("span_memory: expected bytes, such as 1GiB, 800MB or 1000000000, or 0, found '", span_memory, "'");
  return *bytes;
}

void TrainConfig::validate() const {
  auto at_least = [](const char* name, double value, double least) {
    if (!(value >= least) || std::isinf(value)) usage_error(name, ": must be at least ", least, ", is ", value);
  };
  at_least("max_steps", static_cast<double>(max_steps), 0);
  at_least("num_train_epochs", num_train_epochs, 0);
  constexpr double kMostEpochs = 1e9;
  if (num_train_epochs > kMostEpochs)
    usage_error("num_train_epochs: must be at most ", kMostEpochs, ", is ", num_train_epochs);
  if (max_steps == 0 && num_train_epochs == 0) usage_error("max_steps and num_train_epochs are both 0: nothing to do");
  at_least("batch_size", static_cast<double>(batch_size), 0);
  at_least("tokens_per_batch", static_cast<double>(tokens_per_batch), 0);
  if (batch_size == 0 && tokens_per_batch == 0) usage_error("batch_size and tokens_per_batch are both 0; set one");
  at_least("gradient_accumulation_steps", static_cast<double>(gradient_accumulation_steps), 1);
  at_least("learning_rate", learning_rate, 0);
  at_least("span_length", static_cast<double>(span_length), 0);
  if (truncated_backprop && span_length == 0)
    usage_error("truncated_backprop: needs span_length, the tokens that gradients flow through");
  span_bytes();
  if (!span_memory.empty() && span_length == 0) usage_error("span_memory: needs span_length, the tokens of a span");
  at_least("max_grad_norm", max_grad_norm, 0);
  at_least("logging_steps", static_cast<double>(logging_steps), 1);
  at_least("eval_steps", static_cast<double>(eval_steps), 0);
  at_least("save_steps", static_cast<double>(save_steps), 0);
  at_least("save_total_limit", static_cast<double>(save_total_limit), 1);
  // The rest says for itself what is wrong with it.
  optim::AdamW({}, adamw);
  optim::Schedule(schedule, std::max<int64_t>({1, max_steps, schedule.warmup_steps + schedule.decay_steps}));
}

}  // namespace molt::train
