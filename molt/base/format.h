// Numbers as people read them: counts, bytes, times, shares, values of metrics. Never depends on the locale.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace molt {

/// A value in fixed notation with `decimals` digits after the point: (3.14159, 2) -> "3.14". "nan", "inf", "-inf" else.
std::string format_fixed(double value, int decimals);

/// A value with about `digits` significant digits and no trailing zeros: 0.6931 -> "0.6931", 1234567 -> "1.235e6",
/// 0.0002 -> "2e-4". Exponents appear below 1e-3 and from 1e6 on.
std::string format_significant(double value, int digits = 4);

/// A count with a short suffix, three significant digits: 950 -> "950", 1228800 -> "1.23 M", 2780000000 -> "2.78 B".
std::string format_count(double count);

/// A quantity with SI's prefixes, three significant digits: (2.11e12, "FLOP/s") -> "2.11 TFLOP/s".
std::string format_si(double value, const std::string& unit);

/// All digits of an integer, in groups of three divided by commas: 1228800 -> "1,228,800".
std::string format_integer(int64_t value);

/// Bytes in binary units: 3333333333 -> "3.10 GiB".
std::string format_bytes(int64_t bytes);

/// Bytes as people write them: "2GiB", "1.5 GB" (thousands), "800M" (as MiB), "2000000000". Nothing where it is none of
/// these, negative, or more than 64 bits hold.
std::optional<int64_t> parse_bytes(const std::string& text);

/// Seconds as a length of time: 0.25 -> "250 ms", 42 -> "42 s", 252 -> "4 min 12 s", 5000 -> "1 h 23 min".
std::string format_duration(double seconds);

/// Seconds as a clock: 252 -> "4:12", 5000 -> "1:23:20", 100000 -> "1d 3:46:40". "?" where not finite or negative.
std::string format_clock(double seconds);

/// A share in percent with enough digits to tell small ones apart: 0.00921 -> "0.921 %", 0.5 -> "50.0 %", 1 -> "100 %".
std::string format_percent(double share);

}  // namespace molt
