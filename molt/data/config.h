// What a recipe says about data: where it lies, how a record becomes a prompt and a completion, how long, how many.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace molt::data {

/// Goals: every common file of examples can be used without being rewritten; nothing is dropped or cut without a word.
/// Non-goals: downloading, and formats that need a library (parquet, arrow).
struct DataConfig {
  std::vector<std::string> train;
  std::vector<std::string> validation;
  std::vector<std::string> test;
  std::string format = "auto";
  bool header = true;

  std::string prompt;
  std::string completion;
  std::string prefix;
  std::string separator;
  std::string text_field;
  std::string messages_field;
  std::string each;
  std::vector<std::string> map_completion;
  std::vector<std::string> labels;
  bool append_eos = true;
  bool group_references = false;

  int64_t max_length = 0;
  std::string on_long = "error";
  std::optional<int64_t> limit;
  std::optional<int64_t> validation_limit;
  std::string limit_by = "first";
  double validation_split = 0;
  int64_t seed = 42;

  int64_t segment_length = 512;
  bool reset_at_documents = true;
  std::string cache_dir = ".cache/molt";

  /// Calls v.field(name, member, help) for every key, in the order a reader wants them.
  template <class V>
  void visit(V& v) {
    v.field("train", train, "files to train on: .jsonl, .json, .csv, .tsv or .txt");
    v.field("validation", validation, "files to validate on; or set validation_split");
    v.field("test", test, "files for the final test");
    v.field("format", format, "auto (by the file's ending) | jsonl (also a .json array) | csv | tsv | text");
    v.field("header", header, "csv, tsv: the first line names the columns; without it they are {0}, {1}, …");
    v.field("prompt", prompt,
            "template of the prompt, such as \"{question}\\n\"; \"{{\" is a brace, \\n a line end (default {prompt})");
    v.field("completion", completion, "template of what the model learns to say (default {completion})");
    v.field("prefix", prefix, "fixed text before every prompt, tokenised on its own; \\n and \\t as in prompt");
    v.field("separator", separator, "text added to the end of every prompt, such as \"\\n###\"");
    v.field("text_field", text_field, "field with plain text to train on whole, instead of prompt and completion");
    v.field("messages_field", messages_field, "field with a chat, a list of {role, content}; assistant turns train");
    v.field("each", each, "name of a list in every record: one example for each of its items, read as {name.key}");
    v.field("map_completion", map_completion, "pairs \"from=to\" that rename completions, such as entailment=0");
    v.field("labels", labels, "the completions a classifier chooses from (default: those seen in train)");
    v.field("append_eos", append_eos, "end every completion with the end-of-text token");
    v.field("group_references", group_references,
            "validation, test: records with equal prompts are one, with all references");
    v.field("max_length", max_length, "most tokens in an example, prompt and completion together; 0 is no limit");
    v.field("on_long", on_long,
            "examples past max_length: error | drop (counted) | truncate (the prompt's start goes first)");
    v.field("limit", limit, "use this many training examples");
    v.field("validation_limit", validation_limit, "use this many validation examples (of plain text: windows)");
    v.field("limit_by", limit_by, "which ones: first | sample (by seed)");
    v.field("validation_split", validation_split,
            "share of train kept for validation when no validation file is given");
    v.field("seed", seed, "seed of the split, the sample and the order");
    v.field("segment_length", segment_length, "text: tokens in one training window");
    v.field("reset_at_documents", reset_at_documents, "text: the state starts afresh at each document");
    v.field("cache_dir", cache_dir, "text: where tokenised files are kept");
  }

  /// Throws UsageError for a value out of range, an unknown word, or keys that exclude each other.
  void validate() const;
};

/// The format of a file: `format`, or for "auto" what its ending says (jsonl | csv | tsv | text). Throws UsageError
/// when neither does.
std::string format_of(const std::string& path, const std::string& format);

}  // namespace molt::data
