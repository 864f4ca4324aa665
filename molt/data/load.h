// From a config to everything a run needs: training, validation and test data.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "molt/data/batch.h"
#include "molt/data/config.h"
#include "molt/data/encode.h"
#include "molt/data/example_set.h"
#include "molt/data/token_cache.h"

namespace molt::data {

struct LoadOptions {
  int threads = 1;
  /// For text files: how far tokenising is, called from a background thread.
  std::function<void(const TokenProgress&)> progress;
  /// Called once while text files are being tokenised in the background, unless all of them are kept already: what can
  /// be done without data. What it throws is passed on.
  std::function<void()> meanwhile;
};

/// What a config describes. A part the config does not name is null or empty.
struct Data {
  std::shared_ptr<const Source> train, validation, test;
  /// The examples behind them as text, for generation and classification (empty for text files). When references are
  /// grouped, validation and test examples carry theirs here, while their sources keep each one.
  std::vector<Example> train_examples, validation_examples, test_examples;
};

/// Whether the config's files are plain text, to be trained on in windows, rather than examples.
bool is_plain_text(const DataConfig& config);

/// Reads, splits, limits and tokenises. Throws UsageError for whatever is wrong with config or files; without a
/// training, a validation or a test file there is nothing to load, which is an error too.
Data load_data(const DataConfig& config, const Encoder& encoder, const LoadOptions& options = {});

}  // namespace molt::data
