#include "molt/data/load.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "molt/base/error.h"
#include "molt/base/rng.h"
#include "molt/data/window_set.h"

namespace molt::data {
namespace {

std::vector<Example> pick(std::vector<Example> examples, const std::optional<int64_t>& limit,
                          const DataConfig& config) {
  if (!limit || static_cast<size_t>(*limit) >= examples.size()) return examples;
  std::vector<Example> chosen;
  for (const size_t i : choose(examples.size(), static_cast<size_t>(*limit), config.limit_by == "sample",
                               static_cast<uint64_t>(config.seed)))
    chosen.push_back(std::move(examples[i]));
  return chosen;
}

/// Moves about `share` of the examples (at least one, and not all), drawn by seed, out of `train`; both keep file
/// order.
std::vector<Example> split_off(std::vector<Example>& train, double share, uint64_t seed) {
  const size_t n = train.size();
  if (n < 2) usage_error("data.validation_split: expected at least 2 training examples to split, found ", n);
  const auto count = std::clamp<size_t>(static_cast<size_t>(std::ceil(share * static_cast<double>(n))), 1, n - 1);
  std::vector<bool> out(n, false);
  const auto order = permutation(n, mix_keys(seed, hash_name("data.split")));
  for (size_t i = 0; i < count; ++i) out[order[i]] = true;
  std::vector<Example> kept, moved;
  for (size_t i = 0; i < n; ++i) (out[i] ? moved : kept).push_back(std::move(train[i]));
  train = std::move(kept);
  return moved;
}

/// Throws UsageError for a key that is about examples, which plain text has none of.
void check_text_keys(const DataConfig& c) {
  if (c.limit) usage_error("data.limit: counts examples, and plain text has none; use fewer steps or a shorter file");
  if (c.max_length > 0)
    usage_error(
        "data.max_length: is of examples, and plain text has none; its windows have data.segment_length tokens");
  const std::pair<const char*, bool> keys[] = {
      {"prompt", !c.prompt.empty()}, {"completion", !c.completion.empty()},         {"prefix", !c.prefix.empty()},
      {"each", !c.each.empty()},     {"map_completion", !c.map_completion.empty()}, {"separator", !c.separator.empty()},
      {"labels", !c.labels.empty()}};
  for (const auto& [key, given] : keys)
    if (given) usage_error("data.", key, ": is of examples, and plain text has none; leave it out");
}

/// Files whose tokens follow each other.
std::string name_of(const std::vector<std::string>& paths) {
  return paths.size() == 1 ? paths[0] : str(paths[0], " and ", paths.size() - 1, " more");
}

Data load_text(const DataConfig& config, const Encoder& encoder, const LoadOptions& options) {
  check_text_keys(config);
  // A slip in a later file's name would come after minutes spent on an earlier file.
  for (const auto* paths : {&config.train, &config.validation, &config.test})
    for (const auto& path : *paths) check_text_file(path);
  std::function<void()> meanwhile = options.meanwhile;
  auto tokens = [&](const std::vector<std::string>& paths) {
    TokenCache cache(paths, encoder, config.cache_dir, options.progress, options.threads);
    if (!cache.ready() && meanwhile) std::exchange(meanwhile, nullptr)();
    return cache.wait();
  };
  auto windows = [&](const std::string& text, const std::shared_ptr<const TokenFile>& file, int64_t begin,
                     int64_t end) {
    return std::make_shared<WindowSet>(
        file, WindowSet::Options{begin, end, config.segment_length, config.reset_at_documents, encoder.eos, text});
  };
  auto whole = [&](const std::vector<std::string>& paths) -> std::shared_ptr<const Source> {
    if (paths.empty()) return nullptr;
    const auto file = tokens(paths);
    return windows(name_of(paths), file, 0, file->size());
  };
  Data data;
  if (config.validation_split > 0 && !config.train.empty()) {
    const auto file = tokens(config.train);
    const int64_t at = split_point(*file, config.validation_split, encoder.eos);
    data.train = windows(name_of(config.train), file, 0, at);
    data.validation = windows(name_of(config.train), file, at, file->size());
  } else {
    data.train = whole(config.train);
    data.validation = whole(config.validation);
  }
  data.test = whole(config.test);
  return data;
}

}  // namespace

bool is_plain_text(const DataConfig& config) {
  int text = 0, records = 0;
  std::string first_text, first_records;
  for (const auto* paths : {&config.train, &config.validation, &config.test})
    for (const auto& path : *paths) {
      const bool is_text = format_of(path, config.format) == "text";
      (is_text ? text : records)++;
      std::string& first = is_text ? first_text : first_records;
      if (first.empty()) first = path;
    }
  if (text && records)
    usage_error("data: ", first_text, " is plain text and ", first_records, " has examples; a run uses one kind");
  if (!text && !records) usage_error("data: expected a file to train, validate or test on, found none; set data.train");
  return text > 0;
}

Data load_data(const DataConfig& config, const Encoder& encoder, const LoadOptions& options) {
  config.validate();
  if (is_plain_text(config)) return load_text(config, encoder, options);
  Data data;
  data.train_examples = read_examples(config, config.train);
  data.validation_examples =
      config.validation_split > 0 && !config.train.empty()
          ? split_off(data.train_examples, config.validation_split, static_cast<uint64_t>(config.seed))
          : read_examples(config, config.validation);
  data.test_examples = read_examples(config, config.test);
  data.train_examples = pick(std::move(data.train_examples), config.limit, config);
  data.validation_examples = pick(std::move(data.validation_examples), config.validation_limit, config);
  auto source = [&](const std::vector<Example>& examples) -> std::shared_ptr<const Source> {
    if (examples.empty()) return nullptr;
    return std::make_shared<ExampleSet>(examples, config, encoder, options.threads);
  };
  data.train = source(data.train_examples);
  data.validation = source(data.validation_examples);
  data.test = source(data.test_examples);
  if (config.group_references) {
    data.validation_examples = group_by_prompt(std::move(data.validation_examples));
    data.test_examples = group_by_prompt(std::move(data.test_examples));
  }
  return data;
}

}  // namespace molt::data
