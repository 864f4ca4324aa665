// How text is continued: the options of decoding, in the words of transformers' GenerationConfig.
#pragma once

#include <cstdint>
#include <vector>

namespace molt::eval {

struct GenerateConfig {
  int64_t max_new_tokens = 256;
  double temperature = 0;
  int64_t top_k = 0;
  double top_p = 1;
  double repetition_penalty = 1;
  int64_t num_beams = 1;
  double length_penalty = 1;
  int64_t seed = 42;
  int64_t batch_size = 32;
  int64_t prefill_rows = 512;
  /// Tokens that end a sequence; they are not part of the result. Set from the tokenizer, not by the user.
  std::vector<int32_t> stop_ids = {};

  /// Calls v.field(name, member, help) for every key, in the order a reader wants them.
  template <class V>
  void visit(V& v) {
    v.field("max_new_tokens", max_new_tokens, "most tokens to generate");
    v.field("temperature", temperature, "0: always the most likely token; 1: sample as the model says");
    v.field("top_k", top_k, "sample among this many most likely tokens; 0 is no limit");
    v.field("top_p", top_p, "sample among the fewest most likely tokens with this much probability together");
    v.field("repetition_penalty", repetition_penalty,
            "above 1: tokens that occur already become less likely (Keskar et al. 2019)");
    v.field("num_beams", num_beams, "beam search with this many beams; 1 is none");
    v.field("length_penalty", length_penalty,
            "beams: a result's score is its log-probability / length^this; above 0 favours longer ones");
    v.field("seed", seed, "seed of sampling");
    v.field("batch_size", batch_size, "sequences decoded at a time, each beam counted; changes speed and memory only");
    v.field("prefill_rows", prefill_rows, "prompt tokens read at a time; changes speed and memory only");
  }

  /// Throws UsageError for a value out of range, or options that exclude each other.
  void validate() const;
};

}  // namespace molt::eval
