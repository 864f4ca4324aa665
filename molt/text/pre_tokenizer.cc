#include "molt/text/pre_tokenizer.h"

#include "molt/base/error.h"
#include "molt/text/byte_alphabet.h"
#include "molt/text/json_fields.h"
#include "molt/text/utf8.h"

namespace molt::text {

namespace {

constexpr const char* kGpt2Pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr const char* kDigitPattern = R"(\p{N})";
constexpr const char* kPunctuationPattern = R"([!-/:-@\[-`{-~\p{P}])";

SplitBehavior read_behavior(const std::string& name, const std::string& where) {
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  usage_error(where, ": unknown split behavior \"", name, "\"");
}

/// Calls emit(begin, end) for the pieces of `text` under one stage's pattern and behavior.
template <class F>
void cut(std::string_view text, const Regex& regex, SplitBehavior behavior, bool invert, Regex::Scratch& scratch,
         F&& emit) {
  size_t held_begin = 0, held_end = 0;  // a piece that may still grow
  bool held_matched = false;
  const auto flush = [&] {
    if (held_begin < held_end) emit(held_begin, held_end);
    held_begin = held_end;
  };
  const auto take = [&](size_t begin, size_t end, bool matched) {
    if (begin == end) return;
    matched = matched != invert;
    bool grow = false;
    switch (behavior) {
      case SplitBehavior::kRemoved:
        if (!matched) emit(begin, end);
        return;
      case SplitBehavior::kIsolated:
        emit(begin, end);
        return;
      case SplitBehavior::kMergedWithPrevious:
        grow = matched && !held_matched;
        break;
      case SplitBehavior::kMergedWithNext:
        grow = !matched && held_matched;
        break;
      case SplitBehavior::kContiguous:
        grow = matched == held_matched;
        break;
    }
    if (!grow) {
      flush();
      held_begin = begin;
    }
    held_end = end;
    held_matched = matched;
  };
  size_t at = 0, begin = 0, end = 0;
  while (regex.find(text, at, scratch, begin, end)) {
    take(at, begin, false);
    take(begin, end, true);
    at = end;
  }
  take(at, text.size(), false);
  flush();
}

}  // namespace

PreTokenizer PreTokenizer::gpt2(bool add_prefix_space) {
  PreTokenizer p;
  p.add_byte_level(add_prefix_space, true);
  return p;
}

bool PreTokenizer::is_gpt2() const {
  return stages_.size() == 1 && stages_[0].byte_level && stages_[0].regex && !stages_[0].add_prefix_space;
}

PreTokenizer PreTokenizer::from_json(const Json& json, const std::string& where) {
  PreTokenizer p;
  if (!json.is_null()) p.add(json, where);
  if (!p.byte_level_) usage_error(where, " has no ByteLevel stage; Molt reads byte-level BPE tokenizers only");
  return p;
}

void PreTokenizer::add(const Json& json, const std::string& where) {
  const std::string type = type_field(json, where);
  if (type == "Sequence") {
    const Json& stages = field(json, "pretokenizers", where);
    if (!stages.is_array()) usage_error(where, ": a Sequence needs the list \"pretokenizers\"");
    for (const Json& stage : stages) {
      if (type_field(stage, where) == "Sequence") usage_error(where, ": a Sequence within a Sequence is not read");
      add(stage, where);
    }
  } else if (type == "ByteLevel") {
    if (byte_level_) usage_error(where, ": ByteLevel appears twice");
    add_byte_level(bool_field(json, "add_prefix_space", true, where), bool_field(json, "use_regex", true, where));
  } else if (type == "Split") {
    const Json& pattern = field(json, "pattern", where);
    const auto regex = string_field(pattern, "Regex", where), literal = string_field(pattern, "String", where);
    const auto behavior = string_field(json, "behavior", where);
    if (!(regex || literal) || !behavior) usage_error(where, ": Split needs \"pattern\" and \"behavior\"");
    add_split(regex ? *regex : Regex::quote(*literal), read_behavior(*behavior, where),
              bool_field(json, "invert", false, where), where);
  } else if (type == "Digits") {
    const bool individual = bool_field(json, "individual_digits", false, where);
    add_split(kDigitPattern, individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous, false, where);
  } else if (type == "Punctuation") {
    add_split(kPunctuationPattern, read_behavior(string_field(json, "behavior", where).value_or("Isolated"), where),
              false, where);
  } else {
    usage_error(where, " is of type ", type, "; Molt reads ByteLevel, Split, Digits and Punctuation");
  }
}

void PreTokenizer::add_byte_level(bool add_prefix_space, bool use_regex) {
  Stage stage;
  stage.byte_level = byte_level_ = true;
  stage.add_prefix_space = add_prefix_space;
  if (use_regex) stage.regex = std::make_shared<const Regex>(kGpt2Pattern, "ByteLevel");
  stages_.push_back(std::move(stage));
}

void PreTokenizer::add_split(const std::string& pattern, SplitBehavior behavior, bool invert,
                             const std::string& where) {
  Stage stage;
  stage.regex = std::make_shared<const Regex>(pattern, where);
  stage.behavior = behavior;
  stage.invert = invert;
  stage.on_spelling = byte_level_;
  stages_.push_back(std::move(stage));
}

void PreTokenizer::split(std::string_view text, const Emit& emit) const {
  static const Regex kNothing("", "");
  std::vector<Regex::Scratch> scratch;
  scratch.reserve(stages_.size());
  for (const Stage& stage : stages_) scratch.emplace_back(stage.regex ? *stage.regex : kNothing);
  run(0, text, scratch, emit);
}

void PreTokenizer::run(size_t i, std::string_view piece, std::vector<Regex::Scratch>& scratch, const Emit& emit) const {
  if (piece.empty()) return;
  if (i == stages_.size()) return emit(piece);
  const Stage& stage = stages_[i];
  if (stage.on_spelling) return run_on_spelling(i, piece, scratch, emit);
  std::string with_space;
  if (stage.add_prefix_space && piece[0] != ' ') piece = with_space.append(1, ' ').append(piece);
  if (!stage.regex) return run(i + 1, piece, scratch, emit);
  cut(piece, *stage.regex, stage.behavior, stage.invert, scratch[i],
      [&](size_t begin, size_t end) { run(i + 1, piece.substr(begin, end - begin), scratch, emit); });
}

void PreTokenizer::run_on_spelling(size_t i, std::string_view piece, std::vector<Regex::Scratch>& scratch,
                                   const Emit& emit) const {
  std::string spelling;
  std::vector<size_t> byte_at;  // for each offset into the spelling, the byte it spells
  for (size_t byte = 0; byte < piece.size(); ++byte) {
    append_utf8(byte_alphabet()[static_cast<unsigned char>(piece[byte])], spelling);
    byte_at.resize(spelling.size(), byte);
  }
  byte_at.push_back(piece.size());
  const Stage& stage = stages_[i];
  cut(spelling, *stage.regex, stage.behavior, stage.invert, scratch[i], [&](size_t begin, size_t end) {
    run(i + 1, piece.substr(byte_at[begin], byte_at[end] - byte_at[begin]), scratch, emit);
  });
}

}  // namespace molt::text
