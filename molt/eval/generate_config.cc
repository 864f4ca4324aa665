#include "molt/eval/generate_config.h"

#include <cmath>

#include "molt/base/error.h"

namespace molt::eval {
namespace {

void at_least(const char* key, int64_t value, int64_t least) {
  if (value < least) usage_error("generate.", key, ": expected at least ", least, ", got ", value);
}

void at_most(const char* key, int64_t value, int64_t most) {
  if (value > most) usage_error("generate.", key, ": expected at most ", most, ", got ", value);
}

}  // namespace

void GenerateConfig::validate() const {
  at_least("max_new_tokens", max_new_tokens, 1);
  at_least("top_k", top_k, 0);
  at_least("num_beams", num_beams, 1);
  at_least("batch_size", batch_size, 1);
  at_least("prefill_rows", prefill_rows, 1);
  constexpr int64_t kMostBeams = 1 << 16, kMostTokens = 1 << 30;
  at_most("num_beams", num_beams, kMostBeams);
  at_most("max_new_tokens", max_new_tokens, kMostTokens);
  if (!(temperature >= 0 && std::isfinite(temperature)))
    usage_error("generate.temperature: expected 0 or more, got ", temperature);
  if (!(top_p > 0 && top_p <= 1)) usage_error("generate.top_p: expected above 0 and at most 1, got ", top_p);
  if (!(repetition_penalty > 0 && std::isfinite(repetition_penalty)))
    usage_error("generate.repetition_penalty: expected above 0, got ", repetition_penalty);
  if (!std::isfinite(length_penalty)) usage_error("generate.length_penalty: expected a number, got ", length_penalty);
  if (num_beams > 1 && temperature > 0)
    usage_error("generate: num_beams is ", num_beams, " and temperature ", temperature,
                "; beams do not sample: set temperature to 0, or num_beams to 1");
}

}  // namespace molt::eval
