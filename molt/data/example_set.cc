#include "molt/data/example_set.h"

#include <algorithm>
#include <exception>
#include <string_view>
#include <thread>
#include <utility>

#include "molt/base/error.h"
#include "molt/base/log.h"
#include "molt/base/rng.h"

namespace molt::data {

ExampleSet::ExampleSet(const std::vector<Example>& examples, const DataConfig& config, const Encoder& encoder,
                       int threads) {
  const int64_t prefix_tokens = prefix_length(config, encoder);
  const size_t workers = encoder.thread_safe ? static_cast<size_t>(std::max(threads, 1)) : 1;
  constexpr size_t kRound = 4096;  // examples tokenised before they are laid down: bounds the memory held twice
  std::vector<TokenExample> tokens;
  std::vector<std::exception_ptr> failures(workers);
  for (size_t begin = 0; begin < examples.size(); begin += kRound) {
    const size_t count = std::min(kRound, examples.size() - begin);
    tokens.assign(count, {});
    auto work = [&](size_t worker) {
      try {
        for (size_t i = worker; i < count; i += workers)
          tokens[i] = encode_example(examples[begin + i], config, encoder);
      } catch (...) {
        failures[worker] = std::current_exception();
      }
    };
    std::vector<std::thread> pool;
    for (size_t w = 1; w < workers; ++w) pool.emplace_back(work, w);
    work(0);
    for (auto& thread : pool) thread.join();
    for (const auto& failure : failures)
      if (failure) std::rethrow_exception(failure);
    for (size_t i = 0; i < count; ++i) add(std::move(tokens[i]), examples[begin + i], config, prefix_tokens);
  }
  const auto bytes = [](const auto& v) {
    return std::string_view(reinterpret_cast<const char*>(v.data()), v.size() * sizeof(v[0]));
  };
  fingerprint_ = mix_keys(mix_keys(hash_name(bytes(ids_)), hash_name(bytes(learnt_))), hash_name(bytes(offsets_)));
  if (report_.dropped > 0)
    log_warning("data: left out ", report_.dropped, " of ", examples.size(), " examples longer than max_length (",
                config.max_length, " tokens; the longest has ", report_.longest, ")");
  if (report_.truncated > 0)
    log_warning("data: cut ", report_.truncated, " of ", examples.size(), " examples to max_length (",
                config.max_length, " tokens; the longest had ", report_.longest, ")");
  if (report_.unlabelled > 0)
    log_warning("data: left out ", report_.unlabelled, " of ", examples.size(),
                " examples with nothing to learn after the cut");
}

void ExampleSet::add(TokenExample tokens, const Example& e, const DataConfig& config, int64_t prefix_tokens) {
  const auto size = static_cast<int64_t>(tokens.ids.size());
  report_.longest = std::max(report_.longest, size);
  if (tokens.labelled() == 0)
    usage_error(e.where, ": nothing to learn: ",
                e.layout == Layout::kChat ? "no turn of the assistant has any text"
                : size < 2                ? str("the example has ", size, " tokens, and the first is never predicted")
                                          : "the completion is empty");
  constexpr int64_t kMost = int64_t{1} << 24;
  if (config.max_length == 0 && size > kMost)
    usage_error(e.where, ": the example has ", size, " tokens, more than ", kMost,
                "; set data.max_length, and data.on_long to drop or truncate");
  bool cut = false;
  if (config.max_length > 0 && size > config.max_length) {
    if (config.on_long == "error")
      usage_error(e.where, ": the example has ", size, " tokens, more than data.max_length (", config.max_length,
                  "); raise it, or set data.on_long to drop or truncate");
    if (config.on_long == "drop") {
      ++report_.dropped;
      return;
    }
    truncate(tokens, e, config.max_length, prefix_tokens);
    cut = true;
    if (tokens.labelled() == 0) {
      ++report_.unlabelled;
      return;
    }
  }
  report_.truncated += cut;
  ++report_.kept;
  report_.tokens += static_cast<int64_t>(tokens.ids.size());
  report_.labelled += tokens.labelled();
  ids_.insert(ids_.end(), tokens.ids.begin(), tokens.ids.end());
  learnt_.insert(learnt_.end(), tokens.learnt.begin(), tokens.learnt.end());
  offsets_.push_back(static_cast<int64_t>(ids_.size()));
  where_.push_back(e.where);
}

void ExampleSet::append(int64_t i, int64_t reserve, Batch& batch) const {
  MOLT_CHECK(i >= 0 && i < size(), "example set: no sample ", i, " of ", size());
  for (int64_t r = 0; r < reserve; ++r) batch.push(0, kIgnored);
  const auto begin = static_cast<size_t>(offsets_[static_cast<size_t>(i)]);
  const auto end = static_cast<size_t>(offsets_[static_cast<size_t>(i) + 1]);
  for (size_t t = begin; t + 1 < end; ++t) batch.push(ids_[t], learnt_[t + 1] ? ids_[t + 1] : kIgnored);
  batch.close(i);
}

}  // namespace molt::data
