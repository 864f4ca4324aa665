#include "molt/text/bpe_trainer.h"

#include <algorithm>
#include <array>
#include <queue>
#include <set>
#include <unordered_map>

#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/text/byte_alphabet.h"
#include "molt/text/json_fields.h"
#include "molt/text/utf8.h"
#include "molt/text/word_counts.h"

namespace molt::text {

namespace {

using IdPair = std::pair<int32_t, int32_t>;

/// The words with their counts, and for every pair of neighbours how often it occurs and in which words. Merging a pair
/// touches only the words that hold it.
class PairCounts {
 public:
  struct Entry {
    IdPair pair;
    int64_t count = 0;
    std::vector<uint32_t> words;  // those the pair has been seen in; it may be gone from some
    bool offered = false;         // stands in grown_
    bool merged = false;          // has been merged before
  };

  void add_word(std::vector<int32_t> symbols, int64_t count) {
    const auto word = static_cast<uint32_t>(words_.size());
    words_.push_back({std::move(symbols), count});
    const auto& s = words_.back().symbols;
    for (size_t i = 0; i + 1 < s.size(); ++i) change({s[i], s[i + 1]}, count, word);
  }

  size_t size() const { return entries_.size(); }
  const Entry& operator[](size_t i) const { return entries_[i]; }

  /// Puts `merged` for every occurrence of entry i's pair. Returns the entries whose count grew.
  const std::vector<size_t>& merge(size_t i, int32_t merged) {
    const auto [left, right] = entries_[i].pair;
    const std::vector<uint32_t> holders = std::move(entries_[i].words);
    entries_[i].words.clear();
    for (const size_t g : grown_) entries_[g].offered = false;
    grown_.clear();
    for (const uint32_t w : holders) {
      auto& s = words_[w].symbols;
      const int64_t count = words_[w].count;
      size_t out = 0;
      for (size_t in = 0; in < s.size(); ++in, ++out) {
        if (in + 1 == s.size() || s[in] != left || s[in + 1] != right) {
          s[out] = s[in];
          continue;
        }
        if (out > 0) {
          change({s[out - 1], left}, -count, w);
          change({s[out - 1], merged}, count, w);
        }
        if (in + 2 < s.size()) {
          change({right, s[in + 2]}, -count, w);
          change({merged, s[in + 2]}, count, w);
        }
        s[out] = merged;
        ++in;
      }
      s.resize(out);
    }
    entries_[i].count = 0;  // no occurrence is left, however runs of one symbol were counted
    entries_[i].merged = true;
    return grown_;
  }

 private:
  struct Word {
    std::vector<int32_t> symbols;
    int64_t count;
  };

  void change(IdPair pair, int64_t by, uint32_t word) {
    const uint64_t key = uint64_t{static_cast<uint32_t>(pair.first)} << 32 | static_cast<uint32_t>(pair.second);
    const auto [found, is_new] = index_.emplace(key, entries_.size());
    if (is_new) entries_.push_back({pair, 0, {}, false, false});
    Entry& e = entries_[found->second];
    e.count += by;
    if (by < 0) return;
    if (e.words.empty() || e.words.back() != word) e.words.push_back(word);
    if (!e.offered) {
      e.offered = true;
      grown_.push_back(found->second);
    }
  }

  std::vector<Word> words_;
  std::vector<Entry> entries_;
  std::unordered_map<uint64_t, size_t> index_;
  std::vector<size_t> grown_;
};

struct Candidate {
  int64_t count;
  IdPair pair;
  size_t entry;
  bool operator<(const Candidate& o) const { return count != o.count ? count < o.count : pair > o.pair; }
};

void check(const BpeTrainerConfig& c) {
  std::set<std::string> seen;
  for (const std::string& token : c.special_tokens) {
    if (token.empty()) usage_error("training a tokenizer: a special token is empty");
    if (find_invalid_utf8(token) != token.size()) usage_error("training a tokenizer: a special token is not UTF-8");
    if (!seen.insert(token).second) usage_error("training a tokenizer: special token \"", token, "\" is given twice");
    const auto bytes = unspell_bytes(token);
    if (bytes && bytes->size() == 1) usage_error("training a tokenizer: special token \"", token, "\" spells a byte");
  }
  if (!c.eos_token.empty() && !seen.count(c.eos_token))
    usage_error("training a tokenizer: eos_token \"", c.eos_token, "\" is not among the special tokens");
  const int64_t least = 256 + static_cast<int64_t>(c.special_tokens.size());
  if (c.vocab_size < least || c.vocab_size > kMaxVocab)
    usage_error("training a tokenizer: vocab_size must be from ", least, " (bytes and special tokens) to ", kMaxVocab,
                ", not ", c.vocab_size);
  if (c.min_frequency < 1) usage_error("training a tokenizer: min_frequency must be at least 1, not ", c.min_frequency);
}

/// Appends to an object without looking for the key, which would take time quadratic in the size of a vocabulary.
void append_new(OrderedJson& object, const std::string& key, OrderedJson value) {
  auto& members = static_cast<std::vector<OrderedJson::object_t::value_type, OrderedJson::object_t::allocator_type>&>(
      object.get_ref<OrderedJson::object_t&>());
  members.emplace_back(key, std::move(value));
}

std::string eos_of(const BpeTrainerConfig& c) {
  return c.eos_token.empty() && !c.special_tokens.empty() ? c.special_tokens[0] : c.eos_token;
}

}  // namespace

TrainedBpe train_bpe(const std::vector<std::string>& paths, const BpeTrainerConfig& config) {
  check(config);
  TrainedBpe trained{config, config.special_tokens, {}};
  const auto& alphabet = byte_alphabet();
  std::vector<int> bytes(256);
  for (int byte = 0; byte < 256; ++byte) bytes[static_cast<size_t>(byte)] = byte;
  std::sort(bytes.begin(), bytes.end(), [&](int a, int b) { return alphabet[a] < alphabet[b]; });
  std::array<int32_t, 256> byte_ids{};
  for (const int byte : bytes) {
    const char c = static_cast<char>(byte);
    byte_ids[static_cast<size_t>(byte)] = static_cast<int32_t>(trained.tokens.size());
    trained.tokens.push_back(spell_bytes({&c, 1}));
  }
  std::unordered_map<std::string, int32_t> ids;
  for (size_t i = 0; i < trained.tokens.size(); ++i) ids.emplace(trained.tokens[i], static_cast<int32_t>(i));

  PairCounts pairs;
  for (const auto& [word, count] : count_words(paths, {config.special_tokens, config.nfc, config.add_prefix_space})) {
    std::vector<int32_t> symbols;
    for (const unsigned char byte : word) symbols.push_back(byte_ids[byte]);
    if (symbols.size() > 1) pairs.add_word(std::move(symbols), count);
  }
  std::priority_queue<Candidate> queue;
  for (size_t i = 0; i < pairs.size(); ++i) queue.push({pairs[i].count, pairs[i].pair, i});
  while (trained.tokens.size() < static_cast<size_t>(config.vocab_size) && !queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    const int64_t now = pairs[best.entry].count;
    if (now != best.count) {  // other merges have taken from it since
      if (now > 0 && now < best.count) queue.push({now, best.pair, best.entry});
      continue;
    }
    if (now < config.min_frequency) break;
    const std::string &left = trained.tokens[static_cast<size_t>(best.pair.first)],
                      &right = trained.tokens[static_cast<size_t>(best.pair.second)];
    // Two ways may lead to one token, ab + c and a + bc: then a pair that was merged before can come up again.
    if (!pairs[best.entry].merged) trained.merges.emplace_back(left, right);
    const auto [found, is_new] = ids.emplace(left + right, static_cast<int32_t>(trained.tokens.size()));
    if (is_new) trained.tokens.push_back(found->first);
    for (const size_t grown : pairs.merge(best.entry, found->second))
      if (pairs[grown].count > 0) queue.push({pairs[grown].count, pairs[grown].pair, grown});
  }
  return trained;
}

OrderedJson TrainedBpe::to_json() const {
  OrderedJson added = OrderedJson::array(), vocab = OrderedJson::object(), merge_list = OrderedJson::array();
  for (size_t id = 0; id < config.special_tokens.size(); ++id)
    added.push_back({{"id", id},
                     {"content", config.special_tokens[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  for (size_t id = 0; id < tokens.size(); ++id) append_new(vocab, tokens[id], id);
  for (const auto& [left, right] : merges) merge_list.push_back(OrderedJson::array({left, right}));
  const OrderedJson byte_level = {{"type", "ByteLevel"},
                                  {"add_prefix_space", config.add_prefix_space},
                                  {"trim_offsets", true},
                                  {"use_regex", true}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added},
          {"normalizer", config.nfc ? OrderedJson{{"type", "NFC"}} : OrderedJson(nullptr)},
          {"pre_tokenizer", byte_level},
          {"post_processor", byte_level},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", vocab},
            {"merges", merge_list}}}};
}

void TrainedBpe::write(const std::string& directory) const {
  make_directories(directory);
  write_file_atomic(directory + "/tokenizer.json", to_json().dump(1) + "\n");
  OrderedJson tokenizer_config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                                  {"add_prefix_space", config.add_prefix_space},
                                  {"clean_up_tokenization_spaces", false}};
  if (const std::string eos = eos_of(config); !eos.empty()) tokenizer_config["eos_token"] = eos;
  write_file_atomic(directory + "/tokenizer_config.json", tokenizer_config.dump(2) + "\n");
}

}  // namespace molt::text
