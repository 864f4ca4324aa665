// Tokenised text on disk, read through a memory map.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace molt::data {

/// What the end of a token file says about the ids before it.
struct TokenFileInfo {
  uint64_t key = 0;  ///< hash of what the tokens were made from
  int64_t tokens = 0;
  int64_t documents = 0;
  int32_t max_id = 0;  ///< the largest id in the file
};

/// Ids as uint16 (when every id fits) or uint32, little endian, followed by a 64-byte trailer: "MOLTTOK1", the width in
/// bytes, then the fields of TokenFileInfo, each a little-endian uint64, and two words that are zero and a check sum of
/// the trailer.
class TokenFile {
 public:
  /// Maps the file. Throws UsageError when it is missing, or its trailer does not fit its size.
  explicit TokenFile(const std::string& path);
  ~TokenFile();
  TokenFile(const TokenFile&) = delete;
  TokenFile& operator=(const TokenFile&) = delete;

  int64_t size() const { return info_.tokens; }
  const TokenFileInfo& info() const { return info_; }
  const std::string& path() const { return path_; }
  /// Token i. Throws UsageError when the file holds an id that its trailer excludes (it was damaged).
  int32_t operator[](int64_t i) const;

 private:
  std::string path_;
  TokenFileInfo info_;
  int64_t width_ = 0;
  const unsigned char* map_ = nullptr;
  size_t bytes_ = 0;
};

/// Gets pieces of ids in order; `ends_document` counts documents.
using TokenSink = std::function<void(const std::vector<int32_t>& ids, bool ends_document)>;

/// Writes a token file through a temporary neighbour. `vocab_size` (0: unknown) decides the width. `write` produces the
/// ids; when it throws, no file is left. Throws UsageError for an id outside [0, vocab_size).
void write_token_file(const std::string& path, uint64_t key, int64_t vocab_size,
                      const std::function<void(const TokenSink&)>& write);

}  // namespace molt::data
