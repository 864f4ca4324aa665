// The byte-level alphabet of GPT-2: every byte has a printable character, so a vocabulary of byte strings can be kept
// as text in JSON. Bytes that are printable in Latin-1 stand for themselves, the other 68 for U+0100 onwards.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace molt::text {

/// The code point that spells each byte.
const std::array<uint16_t, 256>& byte_alphabet();

/// Spells bytes as text: " a" -> "\u0120a".
std::string spell_bytes(std::string_view bytes);

/// The bytes that a spelling stands for; nothing where it holds a character outside the alphabet or is not UTF-8.
std::optional<std::string> unspell_bytes(std::string_view spelling);

}  // namespace molt::text
