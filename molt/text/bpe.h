// Byte pair encoding of one word (Sennrich et al. 2016; on bytes, Radford et al. 2019): starting from bytes, the pair
// of neighbours that was learned first is merged, the leftmost of equals first, until no learned pair is left.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace molt::text {

/// What a tokenizer file says of its model. Tokens are spelled in the byte alphabet.
struct BpeModel {
  std::unordered_map<std::string, int32_t> vocab;
  std::vector<std::pair<std::string, std::string>> merges;  ///< in the order they were learned
  bool ignore_merges = false;                               ///< a word that is a token is that token
  std::optional<std::string> unknown;                       ///< stands for bytes the vocabulary lacks
  bool fuse_unknown = false;                                ///< one unknown for a run of such bytes
};

/// Encodes words. Immutable, so any number of threads may share one.
class Bpe {
 public:
  /// Throws UsageError, beginning with `where`, when a merge or the unknown token is not in the vocabulary.
  Bpe(const BpeModel& model, const std::string& where);

  /// Appends the ids of one word, given as raw bytes. Throws UsageError for a byte that has neither token nor unknown.
  void encode(std::string_view word, std::vector<int32_t>& ids) const;

 private:
  struct Merge {
    uint64_t pair = ~uint64_t{0};  // left id in the upper half, right id in the lower
    uint32_t rank = kNone;
    int32_t id = 0;
  };
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view s) const { return std::hash<std::string_view>{}(s); }
  };
  static constexpr uint32_t kNone = ~uint32_t{0};

  const Merge& find(int32_t left, int32_t right) const;
  void add_merge(uint64_t pair, uint32_t rank, int32_t id);
  void initial_ids(std::string_view word, std::vector<int32_t>& ids) const;
  void merge_all(std::vector<int32_t>& ids, size_t from) const;
  void merge_short(int32_t* ids, size_t& count) const;
  void merge_long(std::vector<int32_t>& ids, size_t from) const;

  std::array<int32_t, 256> byte_ids_{};
  std::vector<Merge> merges_;  // open addressing, a power of two
  // Words that come out as one token, by their bytes: most words of a text, found at once.
  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> whole_words_;
  int32_t unknown_ = -1;
  bool fuse_unknown_ = false;
};

}  // namespace molt::text
