// Decoding in batches: prompts are read as one packed stream, then every sequence is a segment of one token with a
// carry; those that end leave, waiting prompts take their place.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "molt/eval/generate_config.h"
#include "molt/eval/model_view.h"

namespace molt::eval {

/// Told of each new token of each sequence as soon as it is certain (with beams: when the sequence's search is over).
/// Returning false ends the sequence after this token; with beams it cuts the result there.
using OnToken = std::function<bool(int64_t sequence, int32_t token)>;

/// Told when a sequence is over.
using OnDone = std::function<void(int64_t sequence)>;

/// Continues each prompt; returns the new tokens of each, without the stop token. A result with fewer than
/// max_new_tokens ended by itself. Throws UsageError for a config out of range, an empty prompt, a token outside the
/// vocabulary, or a model whose logits are NaN.
std::vector<std::vector<int32_t>> generate(const ModelView& model, const std::vector<std::vector<int32_t>>& prompts,
                                           const GenerateConfig& config, const OnToken& on_token = {},
                                           const OnDone& on_done = {});

/// The same for prompts that use different adapters on one base: prompt i is continued by views[which[i]]. Adapters
/// that act on rows alone share one batch and every product with the base; one that changes the pass as a whole
/// (nn::why_not_by_rows()) has a batch of its own, and batches take turns. Results are those of one run per adapter.
std::vector<std::vector<int32_t>> generate(const std::vector<ModelView>& views, const std::vector<size_t>& which,
                                           const std::vector<std::vector<int32_t>>& prompts,
                                           const GenerateConfig& config, const OnToken& on_token = {},
                                           const OnDone& on_done = {});

}  // namespace molt::eval
