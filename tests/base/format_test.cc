// Numbers as people read them, with attention to where rounding moves a value into the next unit.
#include "molt/base/format.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace molt {
namespace {

TEST(Format, Significant) {
  EXPECT_EQ(format_significant(0.69314718), "0.6931");
  EXPECT_EQ(format_significant(2.5), "2.5");
  EXPECT_EQ(format_significant(0), "0");
  EXPECT_EQ(format_significant(100), "100");
  EXPECT_EQ(format_significant(9.99996), "10");
  EXPECT_EQ(format_significant(0.0002), "2e-4");
  EXPECT_EQ(format_significant(0.001), "0.001");
  EXPECT_EQ(format_significant(-1234567), "-1.235e6");
  EXPECT_EQ(format_significant(123456, 3), "123456");
  EXPECT_EQ(format_significant(std::nan("")), "nan");
  EXPECT_EQ(format_significant(-std::numeric_limits<double>::infinity()), "-inf");
}

TEST(Format, Counts) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(950), "950");
  EXPECT_EQ(format_count(34.56), "34.6");
  EXPECT_EQ(format_count(999.7), "1.00 k");
  EXPECT_EQ(format_count(6214), "6.21 k");
  EXPECT_EQ(format_count(1228800), "1.23 M");
  EXPECT_EQ(format_count(999600), "1.00 M");
  EXPECT_EQ(format_count(2780000000.0), "2.78 B");
  EXPECT_EQ(format_integer(0), "0");
  EXPECT_EQ(format_integer(999), "999");
  EXPECT_EQ(format_integer(1228800), "1,228,800");
  EXPECT_EQ(format_integer(-123456), "-123,456");
}

TEST(Format, SiPrefixes) {
  EXPECT_EQ(format_si(2.11e12, "FLOP/s"), "2.11 TFLOP/s");
  EXPECT_EQ(format_si(328e9, "FLOP/s"), "328 GFLOP/s");
  EXPECT_EQ(format_si(1.5e15, "FLOP"), "1.50 PFLOP");
  EXPECT_EQ(format_si(12, "B/s"), "12 B/s");
  EXPECT_EQ(format_si(1.0 / 0.0, "B/s"), "inf B/s");
}

TEST(Format, Bytes) {
  EXPECT_EQ(format_bytes(512), "512 B");
  EXPECT_EQ(format_bytes(3333333333), "3.10 GiB");
  EXPECT_EQ(format_bytes(150 << 20), "150 MiB");
}

TEST(Format, BytesAsPeopleWriteThem) {
  EXPECT_EQ(parse_bytes("2000000000"), 2000000000);
  EXPECT_EQ(parse_bytes("2GiB"), int64_t{2} << 30);
  EXPECT_EQ(parse_bytes("1.5 GB"), 1500000000);
  EXPECT_EQ(parse_bytes("800M"), int64_t{800} << 20);
  EXPECT_EQ(parse_bytes("3 kib"), 3072);
  EXPECT_EQ(parse_bytes("17 B"), 17);
  for (const char* wrong : {"", "GiB", "-1", "2 GiBs", "two", "1e30", "nan", "inf", "5 furlongs"})
    EXPECT_FALSE(parse_bytes(wrong)) << wrong;
}

TEST(Format, Times) {
  EXPECT_EQ(format_duration(0.25), "250 ms");
  EXPECT_EQ(format_duration(9.96), "10 s");
  EXPECT_EQ(format_duration(59.6), "1 min 0 s");
  EXPECT_EQ(format_duration(252), "4 min 12 s");
  EXPECT_EQ(format_duration(5000), "1 h 23 min");
  EXPECT_EQ(format_duration(100000), "1 d 3 h");
  EXPECT_EQ(format_duration(std::nan("")), "?");
  EXPECT_EQ(format_clock(0), "0:00");
  EXPECT_EQ(format_clock(252), "4:12");
  EXPECT_EQ(format_clock(3599.7), "1:00:00");
  EXPECT_EQ(format_clock(100000), "1d 3:46:40");
  EXPECT_EQ(format_clock(-1), "?");
}

TEST(Format, Percent) {
  EXPECT_EQ(format_percent(0), "0 %");
  EXPECT_EQ(format_percent(0.00921), "0.921 %");
  EXPECT_EQ(format_percent(0.0123), "1.23 %");
  EXPECT_EQ(format_percent(0.5), "50.0 %");
  EXPECT_EQ(format_percent(1), "100 %");
  EXPECT_EQ(format_percent(0.0000234), "0.0023 %");
}

}  // namespace
}  // namespace molt
