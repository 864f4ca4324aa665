// std::to_chars rather than printf: the decimal point must not follow the user's locale.
#include "molt/base/format.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <system_error>

#include "molt/base/str.h"

namespace molt {
namespace {

std::string not_finite(double value) { return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf"; }

std::string convert(double value, std::chars_format format, int digits) {
  char text[400];
  const std::to_chars_result result = std::to_chars(text, text + sizeof text, value, format, digits);
  return result.ec == std::errc() ? std::string(text, result.ptr) : "?";
}

/// Three significant digits below 1000: 1.23, 12.3, 123.
std::string three_digits(double value) {
  const double size = std::fabs(value);
  return format_fixed(value, size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
}

std::string two(int64_t value) {
  const std::string digits = std::to_string(value);
  return digits.size() < 2 ? str("0", digits) : digits;
}

}  // namespace

std::string format_fixed(double value, int decimals) {
  return std::isfinite(value) ? convert(value, std::chars_format::fixed, decimals) : not_finite(value);
}

std::string format_significant(double value, int digits) {
  if (!std::isfinite(value)) return not_finite(value);
  if (value == 0) return "0";
  const std::string scientific = convert(value, std::chars_format::scientific, digits - 1);
  const size_t e = scientific.find('e');
  const int exponent = std::atoi(scientific.c_str() + e + 1);  // after rounding: 9.9996 counts as 10
  const bool fixed = exponent >= -3 && exponent < 6;
  std::string text = fixed ? format_fixed(value, std::max(0, digits - 1 - exponent)) : scientific.substr(0, e);
  if (text.find('.') != std::string::npos) {
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
  }
  return fixed ? text : text + "e" + std::to_string(exponent);
}

std::string format_count(double count) {
  if (!std::isfinite(count)) return not_finite(count);
  const double size = std::fabs(count);
  if (size < 999.5) return format_fixed(count, size == std::floor(size) || size >= 99.95 ? 0 : size < 9.995 ? 2 : 1);
  if (size < 999.5e3) return three_digits(count / 1e3) + " k";
  if (size < 999.5e6) return three_digits(count / 1e6) + " M";
  if (size < 999.5e9) return three_digits(count / 1e9) + " B";
  return three_digits(count / 1e12) + " T";
}

std::string format_si(double value, const std::string& unit) {
  std::string text = format_count(value);
  if (!std::isfinite(value)) return text + " " + unit;
  // SI writes giga where counts say billion.
  if (text.back() == 'B') text.back() = 'G';
  if (std::fabs(value) >= 999.5e12) text = three_digits(value / 1e15) + " P";
  return std::isalpha(static_cast<unsigned char>(text.back())) ? text + unit : text + " " + unit;
}

std::string format_integer(int64_t value) {
  std::string digits = std::to_string(value), out;
  const size_t sign = value < 0 ? 1 : 0;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > sign && (digits.size() - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out;
}

std::string format_bytes(int64_t bytes) {
  const double size = static_cast<double>(bytes);
  if (size < 1024) return std::to_string(bytes) + " B";
  if (size < 1024.0 * 1024) return three_digits(size / 1024) + " KiB";
  if (size < 1024.0 * 1024 * 1024) return three_digits(size / 1024 / 1024) + " MiB";
  if (size < 1024.0 * 1024 * 1024 * 1024) return three_digits(size / 1024 / 1024 / 1024) + " GiB";
  return three_digits(size / 1024 / 1024 / 1024 / 1024) + " TiB";
}

std::optional<int64_t> parse_bytes(const std::string& text) {
  double value = 0;
  const char *begin = text.data(), *end = begin + text.size();
  const auto [rest, error] = std::from_chars(begin, end, value);
  if (error != std::errc() || !std::isfinite(value) || value < 0) return std::nullopt;
  std::string unit;
  for (const char* c = rest; c != end; ++c) {
    if (*c != ' ') unit += static_cast<char>(std::tolower(static_cast<unsigned char>(*c)));
  }
  if (!unit.empty() && unit != "b") {
    const size_t power = std::string("kmgt").find(unit[0]);
    const std::string kind = unit.substr(1);
    if (power == std::string::npos || (kind != "" && kind != "b" && kind != "ib")) return std::nullopt;
    value *= std::pow(kind == "b" ? 1000 : 1024, static_cast<double>(power + 1));
  }
  if (value >= 9.2e18) return std::nullopt;
  return static_cast<int64_t>(value);
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e12) return "?";
  if (seconds < 0.9995) return format_fixed(seconds * 1000, 0) + " ms";
  if (seconds < 9.95) return format_fixed(seconds, 1) + " s";
  const int64_t whole = std::llround(seconds);
  if (whole < 60) return std::to_string(whole) + " s";
  if (whole < 3600) return std::to_string(whole / 60) + " min " + std::to_string(whole % 60) + " s";
  if (whole < 86400) return std::to_string(whole / 3600) + " h " + std::to_string(whole / 60 % 60) + " min";
  return std::to_string(whole / 86400) + " d " + std::to_string(whole / 3600 % 24) + " h";
}

std::string format_clock(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e12) return "?";
  const int64_t whole = std::llround(seconds), hours = whole / 3600;
  if (hours == 0) return std::to_string(whole / 60) + ":" + two(whole % 60);
  const std::string rest = two(whole / 60 % 60) + ":" + two(whole % 60);
  if (hours < 24) return std::to_string(hours) + ":" + rest;
  return std::to_string(hours / 24) + "d " + std::to_string(hours % 24) + ":" + rest;
}

std::string format_percent(double share) {
  const double percent = share * 100;
  if (!std::isfinite(percent)) return not_finite(percent);
  const double size = std::fabs(percent);
  if (size == 0 || size >= 99.95) return format_fixed(percent, 0) + " %";
  return (size < 0.000995 ? format_significant(percent, 2)
                          : format_fixed(percent, size < 0.00995 ? 4
                                                  : size < 0.995 ? 3
                                                  : size < 9.95  ? 2
                                                                 : 1)) +
         " %";
}

}  // namespace molt
