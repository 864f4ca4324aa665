// A model with its tokenizer, opened for any verb; methods or an adapter on it where there are some.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "molt/app/adapter_set.h"
#include "molt/data/encode.h"
#include "molt/eval/model_view.h"
#include "molt/models/load.h"
#include "molt/text/tokenizer.h"

namespace molt::app {

/// Loads the tokenizer at `path`, or in the model's directory where `path` is empty. Throws UsageError, telling how to
/// give one, where there is none; or where it has ids the model has no rows for.
text::Tokenizer open_tokenizer(const std::string& path, const std::string& model_directory, int64_t vocabulary);

/// The directory of the base that an adapter names. `adapter` is as read_adapter_spec() takes it. Throws UsageError
/// where it is none.
std::string base_of(const std::string& adapter);

/// A model that can be asked, with or without an adapter.
class Workspace {
 public:
  struct Options {
    std::string model = {};                  ///< or empty: the base that the adapter names
    std::string adapter = {};                ///< as read_adapter_spec() takes it, or empty
    std::vector<std::string> adapters = {};  ///< several instead, with names
    std::string tokenizer = {};              ///< or empty: the model's
    std::string base_dtype = "auto", compute = "auto";
    int64_t threads = 0;  ///< 0: every core this process may use
  };
  /// Opens model and adapter; throws UsageError for files that are not there or do not belong together. The weights are
  /// read on first use of edits() or view(), so that tokenizer and data can be looked at before.
  explicit Workspace(Options options);

  /// With `model` as found.
  const Options& options() const { return options_; }

  models::LoadedModel& loaded() { return loaded_; }
  const nn::LanguageModel& model() const { return *loaded_.model; }
  /// Of the only adapter, or the first.
  const nn::EditSet& edits();
  eval::ModelView view() { return {*loaded_.model, &edits()}; }
  /// Of each adapter in the order given, and the plain base at the end.
  std::vector<eval::ModelView> views();
  /// The adapters' names, in that order.
  std::vector<std::string> adapter_names() const;
  /// Where among views() an adapter of a name is: "none" is the base, "" the first adapter, or the base where there is
  /// none. Throws UsageError, beginning with `where`.
  size_t view_named(const std::string& name, const std::string& where) const;
  /// Loaded on first use.
  const text::Tokenizer& tokenizer();
  data::Encoder encoder() const;
  /// The mark that ends a turn of a chat, by the template beside the tokenizer (ChatML where there is none).
  std::string end_of_turn() const;

 private:
  Options options_;
  models::LoadedModel loaded_;
  std::unique_ptr<AdapterSet> adapters_;  // or null
  nn::EditSet no_edits_;
  bool ready_ = false;
  std::optional<text::Tokenizer> tokenizer_;
};

}  // namespace molt::app
