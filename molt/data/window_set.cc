#include "molt/data/window_set.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "molt/base/error.h"
#include "molt/base/rng.h"

namespace molt::data {

WindowSet::WindowSet(std::shared_ptr<const TokenFile> tokens, Options options)
    : tokens_(std::move(tokens)), options_(options) {
  MOLT_CHECK(options_.begin >= 0 && options_.end <= tokens_->size() && options_.segment_length > 0,
             "window set: range [", options_.begin, ", ", options_.end, ") of ", tokens_->size());
  if (options_.end - options_.begin < 2)
    usage_error(tokens_->path(), ": expected at least 2 tokens of text, found ",
                std::max<int64_t>(options_.end - options_.begin, 0));
}

int64_t WindowSet::rows(int64_t i) const {
  return std::min(options_.segment_length, options_.end - 1 - options_.begin - i * options_.segment_length);
}

bool WindowSet::cut_before(int64_t token) const {
  return options_.reset_at_documents && (*tokens_)[token] == options_.eos;
}

int64_t WindowSet::segments(int64_t i) const {
  const int64_t begin = options_.begin + i * options_.segment_length;
  int64_t count = 1;
  for (int64_t t = begin + 1; t < begin + rows(i); ++t) count += cut_before(t);
  return count;
}

void WindowSet::append(int64_t i, int64_t reserve, Batch& batch) const {
  MOLT_CHECK(i >= 0 && i < size(), "window set: no window ", i, " of ", size());
  const int64_t begin = options_.begin + i * options_.segment_length, end = begin + rows(i);
  for (int64_t t = begin; t < end; ++t) {
    if (t > begin && cut_before(t)) batch.close(i);
    if (t == begin || cut_before(t))
      for (int64_t r = 0; r < reserve; ++r) batch.push(0, kIgnored);
    batch.push((*tokens_)[t], (*tokens_)[t + 1]);
  }
  batch.close(i);
}

std::string WindowSet::where(int64_t i) const {
  return str(options_.text.empty() ? tokens_->path() : options_.text, ": window ", i);
}

uint64_t WindowSet::fingerprint() const {
  uint64_t h = tokens_->info().key;
  for (const int64_t v : {options_.begin, options_.end, options_.segment_length, int64_t{options_.reset_at_documents}})
    h = mix_keys(h, static_cast<uint64_t>(v));
  return h;
}

int64_t split_point(const TokenFile& tokens, double share, int32_t eos) {
  const auto n = tokens.size();
  const int64_t from = n - static_cast<int64_t>(std::llround(share * static_cast<double>(n)));
  for (int64_t t = from; t < n - 1; ++t)
    if (tokens[t] == eos) return t;
  return from;
}

}  // namespace molt::data
