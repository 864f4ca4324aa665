#include "molt/data/batch.h"

#include <utility>

#include "molt/base/error.h"
#include "molt/base/rng.h"
#include "molt/data/example.h"

namespace molt::data {

void Batch::close(int64_t example) {
  segments.append(rows() - segments.tokens());
  examples.push_back(example);
}

BatchStream::BatchStream(std::shared_ptr<const Source> source, BatchOptions options)
    : source_(std::move(source)), options_(options) {
  MOLT_CHECK(options_.batch_size >= 0 && options_.tokens_per_batch >= 0 && options_.reserve >= 0,
             "batch stream: sizes must not be negative");
  MOLT_CHECK(options_.batch_size > 0 || options_.tokens_per_batch > 0,
             "batch stream: batch_size or tokens_per_batch must be set");
  if (source_->size() == 0) usage_error("data: there is no example to make batches of");
  if (options_.tokens_per_batch > 0) {
    for (int64_t i = 0; i < source_->size(); ++i) {
      const int64_t rows = rows_of(i);
      if (rows > options_.tokens_per_batch)
        usage_error(source_->where(i), ": takes ", rows, " tokens, more than tokens_per_batch (",
                    options_.tokens_per_batch, "); raise it, or ", source_->shorten());
    }
  }
  seek({0, 0});
}

int64_t BatchStream::rows_of(int64_t i) const {
  return source_->rows(i) + (options_.reserve > 0 ? options_.reserve * source_->segments(i) : 0);
}

BatchStream::Plan BatchStream::make_plan(int64_t epoch) const {
  Plan plan;
  plan.epoch = epoch;
  const int64_t n = source_->size();
  if (options_.shuffle)
    plan.order = permutation(static_cast<size_t>(n), mix_keys(mix_keys(options_.seed, static_cast<uint64_t>(epoch)),
                                                              hash_name("data.shuffle")));
  int64_t samples = 0, rows = 0;
  for (int64_t place = 0; place < n; ++place) {
    const int64_t i = options_.shuffle ? plan.order[static_cast<size_t>(place)] : place;
    const int64_t more = rows_of(i);
    const bool full = (options_.batch_size > 0 && samples == options_.batch_size) ||
                      (options_.tokens_per_batch > 0 && rows + more > options_.tokens_per_batch);
    if (place == 0 || full) {
      plan.starts.push_back(place);
      samples = rows = 0;
    }
    ++samples, rows += more;
  }
  const bool partial = options_.drop_last && options_.batch_size > 0 && samples < options_.batch_size;
  if (!partial || plan.starts.size() == 1) plan.starts.push_back(n);  // an epoch has at least one batch
  return plan;
}

const BatchStream::Plan& BatchStream::plan(int64_t epoch) const {
  if (plan_.epoch != epoch) plan_ = make_plan(epoch);
  return plan_;
}

int64_t BatchStream::steps_per_epoch(int64_t epoch) const {
  return static_cast<int64_t>((plan_.epoch == epoch ? plan_ : make_plan(epoch)).starts.size()) - 1;
}

int64_t BatchStream::steps_in(int64_t epochs) const {
  const bool constant = !options_.shuffle || options_.tokens_per_batch == 0;
  if (constant) return epochs * steps_per_epoch();
  int64_t steps = 0;
  for (int64_t epoch = 0; epoch < epochs; ++epoch) steps += steps_per_epoch(epoch);
  return steps;
}

Batch BatchStream::at(int64_t epoch, int64_t index) const {
  const Plan& p = plan(epoch);
  MOLT_CHECK(index >= 0 && index + 1 < static_cast<int64_t>(p.starts.size()), "batch stream: epoch ", epoch, " has ",
             p.starts.size() - 1, " batches, asked for ", index);
  Batch batch;
  for (int64_t place = p.starts[static_cast<size_t>(index)]; place < p.starts[static_cast<size_t>(index) + 1]; ++place)
    source_->append(options_.shuffle ? p.order[static_cast<size_t>(place)] : place, options_.reserve, batch);
  return batch;
}

Batch BatchStream::next() {
  Batch batch = at(position_.epoch, position_.batch);
  if (++position_.batch == steps_per_epoch(position_.epoch)) position_ = {position_.epoch + 1, 0};
  return batch;
}

void BatchStream::seek(Position position) {
  MOLT_CHECK(position.epoch >= 0 && position.batch >= 0 &&
                 position.batch < static_cast<int64_t>(plan(position.epoch).starts.size()) - 1,
             "batch stream: no batch ", position.batch, " in epoch ", position.epoch);
  position_ = position;
}

std::string BatchStream::fingerprint() const {
  uint64_t h = source_->fingerprint();
  for (const int64_t v : {options_.batch_size, options_.tokens_per_batch, int64_t{options_.shuffle},
                          int64_t{options_.drop_last}, static_cast<int64_t>(options_.seed), options_.reserve})
    h = mix_keys(h, static_cast<uint64_t>(v));
  return std::to_string(h);
}

Json BatchStream::save() const {
  return {{"epoch", position_.epoch}, {"batch", position_.batch}, {"data", fingerprint()}};
}

void BatchStream::restore(const Json& saved) {
  auto integer = [&](const char* key) -> int64_t {
    if (!saved.is_object() || !saved.contains(key) || !saved[key].is_number_integer())
      usage_error("data position: expected an object with an integer \"", key, "\", found ",
                  saved.dump().substr(0, 80));
    return saved[key].get<int64_t>();
  };
  const Position p{integer("epoch"), integer("batch")};
  if (!saved.contains("data") || saved["data"] != fingerprint())
    usage_error(
        "data position: the training data, its order or the batch size differ from those the checkpoint was made "
        "with, so the run cannot continue exactly; restore them or start a new run");
  if (p.epoch < 0 || p.batch < 0 || p.batch >= steps_per_epoch(p.epoch))
    usage_error("data position: no batch ", p.batch, " in epoch ", p.epoch);
  seek(p);
}

}  // namespace molt::data
