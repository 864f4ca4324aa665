// Tokens that stand outside the BPE model and are found in text as they are written: <|endoftext|>, runs of spaces.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace molt::text {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;      ///< marks structure; decoding may skip it, and text may be kept from meaning it
  bool normalized = false;   ///< looked for in normalised text rather than in the text as given
  bool single_word = false;  ///< only where no word character touches it
  bool lstrip = false;       ///< swallows white space on its left
  bool rstrip = false;       ///< and on its right
};

/// Finds a set of added tokens in text: from left to right, the longest where several begin.
class AddedTokenMatcher {
 public:
  void add(const AddedToken& token, std::string_view pattern);

  /// Calls on_text with each stretch between tokens (never empty) and on_token with each token, in order. With
  /// `allow_special` false special tokens are part of the stretches.
  void split(std::string_view text, bool allow_special, const std::function<void(std::string_view)>& on_text,
             const std::function<void(int32_t)>& on_token) const;

 private:
  struct Node {  // of a trie over bytes
    int32_t first_child = -1, next_sibling = -1;
    int32_t token = -1;  // index into tokens_
    unsigned char byte = 0;
  };
  int32_t child(int32_t node, unsigned char byte) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_ = std::vector<Node>(1);  // the root
  bool begins_[256] = {};
};

}  // namespace molt::text
