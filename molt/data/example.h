// Examples as text: what a file of records says after templates, before any tokenizer.
#pragma once

#include <string>
#include <vector>

#include "molt/data/config.h"

namespace molt::data {

/// One turn of a chat.
struct Message {
  std::string role;
  std::string content;
};

/// How an example trains: on its completion, on all of its text, or on the assistant's turns.
enum class Layout { kCompletion, kText, kChat };

struct Example {
  Layout layout = Layout::kCompletion;
  std::string prompt;                   // kCompletion: with the separator, without the prefix
  std::string completion;               // kCompletion; kText: the text
  std::vector<Message> messages;        // kChat
  std::vector<std::string> references;  // more right answers, when equal prompts were grouped
  std::string where;                    // "file:line"
};

/// All examples of the files, in order. The layout is what the config's keys say, or else what the first record has:
/// messages (or conversations), prompt and completion, or text. Throws UsageError at the record's place when one lacks
/// a field, has nothing to learn, or a file holds no example.
std::vector<Example> read_examples(const DataConfig& config, const std::vector<std::string>& paths);

/// Joins examples whose prompts are equal into the first of them, whose `references` get the other completions.
std::vector<Example> group_by_prompt(std::vector<Example> examples);

/// Chooses and orders at most `limit` of n items: the first ones, or a sample by seed in file order.
std::vector<size_t> choose(size_t n, size_t limit, bool sample, uint64_t seed);

/// A random permutation of 0 … n-1, a function of the key alone (Fisher-Yates on counter-based draws).
std::vector<uint32_t> permutation(size_t n, uint64_t key);

}  // namespace molt::data
