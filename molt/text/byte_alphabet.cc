#include "molt/text/byte_alphabet.h"

#include "molt/text/utf8.h"

namespace molt::text {

namespace {

constexpr int kCodePoints = 256 + 68;

constexpr bool stands_for_itself(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

constexpr std::array<uint16_t, 256> make_alphabet() {
  std::array<uint16_t, 256> alphabet{};
  uint16_t next = 256;
  for (int byte = 0; byte < 256; ++byte) alphabet[byte] = stands_for_itself(byte) ? byte : next++;
  return alphabet;
}

constexpr std::array<uint16_t, 256> kAlphabet = make_alphabet();

constexpr std::array<int16_t, kCodePoints> make_inverse() {
  std::array<int16_t, kCodePoints> inverse{};
  for (auto& byte : inverse) byte = -1;
  for (int byte = 0; byte < 256; ++byte) inverse[kAlphabet[byte]] = byte;
  return inverse;
}

constexpr std::array<int16_t, kCodePoints> kInverse = make_inverse();

}  // namespace

const std::array<uint16_t, 256>& byte_alphabet() { return kAlphabet; }

std::string spell_bytes(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() + bytes.size() / 2);
  for (const unsigned char byte : bytes) append_utf8(kAlphabet[byte], out);
  return out;
}

std::optional<std::string> unspell_bytes(std::string_view spelling) {
  std::string out;
  out.reserve(spelling.size());
  for (size_t at = 0; at < spelling.size();) {
    const Utf8Char c = next_utf8(spelling, at);
    if (!c.valid || c.code_point >= kCodePoints || kInverse[c.code_point] < 0) return std::nullopt;
    out.push_back(static_cast<char>(kInverse[c.code_point]));
    at += c.size;
  }
  return out;
}

}  // namespace molt::text
