// Lines of every ending and length, and files that are not text.
#include "molt/data/line_reader.h"

#include "tests/data/helpers.h"

namespace molt::data {
namespace {

using testing::expect_usage_error;
using testing::TempDir;

std::vector<std::string> lines_of(const std::string& path) {
  LineReader reader(path);
  std::vector<std::string> lines;
  std::string line;
  while (reader.next(line)) lines.push_back(line);
  EXPECT_EQ(reader.bytes_read(), reader.bytes_total());
  return lines;
}

using Lines = std::vector<std::string>;

TEST(LineReader, TakesEitherEndingAndAMissingLastOne) {
  TempDir dir;
  EXPECT_EQ(lines_of(dir.file("a", "x\ny\n")), (Lines{"x", "y"}));
  EXPECT_EQ(lines_of(dir.file("b", "x\r\ny")), (Lines{"x", "y"}));
  EXPECT_EQ(lines_of(dir.file("c", "\n\r\n\n")), (Lines{"", "", ""}));
  EXPECT_EQ(lines_of(dir.file("d", "")), Lines{});
  EXPECT_EQ(lines_of(dir.file("e", "a\rb\n")), (Lines{"a\rb"}));
}

TEST(LineReader, DropsAByteOrderMarkAtTheStartOnly) {
  TempDir dir;
  EXPECT_EQ(lines_of(dir.file("a", "\xEF\xBB\xBFx\n\xEF\xBB\xBFy\n")), (Lines{"x", "\xEF\xBB\xBFy"}));
  EXPECT_EQ(lines_of(dir.file("b", "\xEF\xBB\xBF")), (Lines{""}));
}

TEST(LineReader, KeepsLinesLongerThanItsBlocks) {
  TempDir dir;
  const std::string big(size_t{100} << 20, 'a');
  LineReader reader(dir.file("a", "x\r\n" + big + "\r\nz"));
  std::string line;
  ASSERT_TRUE(reader.next(line));
  EXPECT_TRUE(reader.ended_in_crlf());
  ASSERT_TRUE(reader.next(line));
  EXPECT_TRUE(line == big);
  EXPECT_EQ(reader.line(), 2);
  ASSERT_TRUE(reader.next(line));
  EXPECT_EQ(line, "z");
  EXPECT_FALSE(reader.ended_in_crlf());
  EXPECT_FALSE(reader.next(line));
}

TEST(LineReader, JoinsACrlfThatTwoBlocksShare) {
  TempDir dir;
  const size_t block = size_t{1} << 20;
  EXPECT_EQ(lines_of(dir.file("a", std::string(block - 1, 'a') + "\r\nb\n")),
            (Lines{std::string(block - 1, 'a'), "b"}));
  EXPECT_EQ(lines_of(dir.file("b", std::string(block - 1, 'a') + "\n")), (Lines{std::string(block - 1, 'a')}));
}

TEST(LineReader, RefusesWhatIsNotText) {
  TempDir dir;
  expect_usage_error([&] { lines_of(dir.file("nul", std::string("ok\na\0b\n", 7))); }, {"nul:2: ", "NUL", "byte 2"});
  expect_usage_error([&] { lines_of(dir.file("latin1", "one\ntwo\ncaf\xE9\n")); },
                     {"latin1:3: ", "UTF-8", "0xe9", "byte 4"});
  expect_usage_error([&] { lines_of(dir.file("utf16", std::string("\xFF\xFEh\0i\0", 6))); }, {"utf16:1: ", "UTF-16"});
  expect_usage_error([&] { lines_of(dir.path()); }, {"directory"});
  expect_usage_error([&] { lines_of(dir / "absent"); }, {"absent: ", "No such file"});
}

TEST(LineReader, AFileWithoutLinesIsRefusedBeforeMemoryIsFull) {
  TempDir dir;
  // A terabyte of nothing, as an image of a disk may be.
  const std::string hole = dir.file("hole", "one\ntwo");
  std::filesystem::resize_file(hole, uintmax_t{1} << 40);
  LineReader reader(hole);
  std::string line;
  ASSERT_TRUE(reader.next(line));
  expect_usage_error([&] { reader.next(line); }, {"hole:2: ", "NUL", "byte 4"});
  EXPECT_LT(line.size(), size_t{4} << 20);
}

TEST(Utf8, FindsTheFirstByteThatIsNotPartOfIt) {
  for (const char* good : {"", "plain text, longer than eight bytes", "caf\xC3\xA9", "\xE2\x82\xAC", "\xED\x9F\xBF",
                           "\xEE\x80\x80", "\xF0\x9F\x98\x80", "\xF4\x8F\xBF\xBF"})
    EXPECT_EQ(find_invalid_utf8(good), std::nullopt) << good;
  const std::vector<std::pair<std::string, size_t>> bad = {{"12345678\x80", 8},     {"a\xC3", 1},
                                                           {"\xC0\x80", 0},         {"\xC1\xBF", 0},
                                                           {"\xE0\x9F\xBF", 0},     {"ab\xE2\x82", 2},
                                                           {"\xED\xA0\x80", 0},     {"\xF0\x8F\xBF\xBF", 0},
                                                           {"\xF4\x90\x80\x80", 0}, {"\xF5\x80\x80\x80", 0},
                                                           {"\xF0\x9F\x98\x41", 0}, {"abc\xFF", 3}};
  for (const auto& [text, at] : bad) EXPECT_EQ(find_invalid_utf8(text), at) << text;
}

}  // namespace
}  // namespace molt::data
