#include "molt/text/bpe.h"

#include <algorithm>
#include <functional>
#include <queue>

#include "molt/base/error.h"
#include "molt/text/byte_alphabet.h"

namespace molt::text {

namespace {

// Up to here looking at all pairs again after each merge beats a queue.
constexpr size_t kShortWord = 48;

uint64_t pair_of(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

size_t hash_pair(uint64_t pair) {
  pair *= 0x9E3779B97F4A7C15;
  return static_cast<size_t>(pair ^ (pair >> 32));
}

}  // namespace

Bpe::Bpe(const BpeModel& model, const std::string& where) : fuse_unknown_(model.fuse_unknown) {
  const auto id_of = [&](const std::string& token, const char* what) {
    const auto found = model.vocab.find(token);
    if (found == model.vocab.end())
      usage_error(where, ": ", what, " needs the token \"", token, "\", which is not in the vocabulary");
    return found->second;
  };
  if (model.unknown) unknown_ = id_of(*model.unknown, "unk_token");
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    const auto found = model.vocab.find(spell_bytes({&c, 1}));
    byte_ids_[byte] = found == model.vocab.end() ? -1 : found->second;
  }
  size_t slots = 16;
  while (slots < 2 * model.merges.size() + 2) slots *= 2;
  merges_.resize(slots);
  for (size_t rank = 0; rank < model.merges.size(); ++rank) {
    const auto& [left, right] = model.merges[rank];
    add_merge(pair_of(id_of(left, "a merge"), id_of(right, "a merge")), static_cast<uint32_t>(rank),
              id_of(left + right, "a merge"));
  }
  std::vector<int32_t> ids;
  for (const auto& [token, id] : model.vocab) {
    const auto word = unspell_bytes(token);
    if (!word || word->empty()) continue;
    if (!model.ignore_merges) {
      ids.clear();
      initial_ids(*word, ids);
      if (std::find(ids.begin(), ids.end(), -1) != ids.end()) continue;
      merge_all(ids, 0);
      if (ids.size() != 1 || ids[0] != id) continue;
    }
    whole_words_.emplace(*word, id);
  }
}

void Bpe::add_merge(uint64_t pair, uint32_t rank, int32_t id) {
  size_t slot = hash_pair(pair) & (merges_.size() - 1);
  while (merges_[slot].rank != kNone && merges_[slot].pair != pair) slot = (slot + 1) & (merges_.size() - 1);
  merges_[slot] = {pair, rank, id};  // a merge that is listed twice has its last rank
}

const Bpe::Merge& Bpe::find(int32_t left, int32_t right) const {
  const uint64_t pair = pair_of(left, right);
  size_t slot = hash_pair(pair) & (merges_.size() - 1);
  while (merges_[slot].rank != kNone && merges_[slot].pair != pair) slot = (slot + 1) & (merges_.size() - 1);
  return merges_[slot];
}

void Bpe::initial_ids(std::string_view word, std::vector<int32_t>& ids) const {
  bool unknown_before = false;
  for (const unsigned char byte : word) {
    const int32_t id = byte_ids_[byte];
    if (id >= 0 || unknown_ < 0) {
      ids.push_back(id);
    } else if (!(fuse_unknown_ && unknown_before)) {
      ids.push_back(unknown_);
    }
    unknown_before = id < 0;
  }
}

void Bpe::encode(std::string_view word, std::vector<int32_t>& ids) const {
  const auto whole = whole_words_.find(word);
  if (whole != whole_words_.end()) {
    ids.push_back(whole->second);
    return;
  }
  const size_t from = ids.size();
  initial_ids(word, ids);
  if (unknown_ < 0) {
    const auto missing = std::find(ids.begin() + static_cast<ptrdiff_t>(from), ids.end(), -1);
    if (missing != ids.end()) {
      const int byte = static_cast<unsigned char>(word[static_cast<size_t>(missing - ids.begin()) - from]);
      usage_error("encoding text: the tokenizer has no token for byte ", byte, " and no unk_token");
    }
  }
  merge_all(ids, from);
}

void Bpe::merge_all(std::vector<int32_t>& ids, size_t from) const {
  size_t count = ids.size() - from;
  if (count > kShortWord) return merge_long(ids, from);
  merge_short(ids.data() + from, count);
  ids.resize(from + count);
}

void Bpe::merge_short(int32_t* ids, size_t& count) const {
  const Merge* next[kShortWord];  // next[i]: what becomes of ids i and i + 1
  for (size_t i = 0; i + 1 < count; ++i) next[i] = &find(ids[i], ids[i + 1]);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i)
      if (next[i]->rank < next[best]->rank) best = i;
    if (next[best]->rank == kNone) return;
    ids[best] = next[best]->id;
    --count;
    for (size_t i = best + 1; i < count; ++i) ids[i] = ids[i + 1], next[i - 1] = next[i];
    if (best + 1 < count) next[best] = &find(ids[best], ids[best + 1]);
    if (best > 0) next[best - 1] = &find(ids[best - 1], ids[best]);
  }
}

void Bpe::merge_long(std::vector<int32_t>& ids, size_t from) const {
  constexpr size_t kEnd = ~size_t{0};
  struct Symbol {
    int32_t id;  // -1 once merged into its left neighbour
    size_t previous, next;
  };
  struct Candidate {
    uint32_t rank;
    size_t at;
    uint64_t pair;  // to know a candidate whose symbols have changed since
    bool operator>(const Candidate& o) const { return rank != o.rank ? rank > o.rank : at > o.at; }
  };
  const size_t count = ids.size() - from;
  std::vector<Symbol> symbols(count);
  for (size_t i = 0; i < count; ++i) symbols[i] = {ids[from + i], i - 1, i + 1 < count ? i + 1 : kEnd};
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto offer = [&](size_t at) {
    if (at == kEnd || symbols[at].next == kEnd) return;
    const Merge& merge = find(symbols[at].id, symbols[symbols[at].next].id);
    if (merge.rank != kNone) queue.push({merge.rank, at, merge.pair});
  };
  for (size_t i = 0; i < count; ++i) offer(i);
  while (!queue.empty()) {
    const Candidate c = queue.top();
    queue.pop();
    Symbol& left = symbols[c.at];
    if (left.id < 0 || left.next == kEnd || pair_of(left.id, symbols[left.next].id) != c.pair) continue;
    Symbol& right = symbols[left.next];
    left.id = find(left.id, right.id).id;
    right.id = -1;
    left.next = right.next;
    if (left.next != kEnd) symbols[left.next].previous = c.at;
    offer(c.at);
    offer(left.previous);
  }
  ids.resize(from);
  for (size_t at = 0; at != kEnd; at = symbols[at].next) ids.push_back(symbols[at].id);
}

}  // namespace molt::text
