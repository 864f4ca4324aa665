// Records of the three formats, their templates, and files that break their format's rules.
#include "molt/data/record.h"

#include "molt/data/field_template.h"
#include "tests/data/helpers.h"

namespace molt::data {
namespace {

using testing::expect_usage_error;
using testing::TempDir;

std::vector<Record> records_of(const std::string& path, const std::string& format, bool header = true) {
  std::vector<Record> all;
  read_records(path, format, header, [&](Record r) {
    all.push_back(std::move(r));
    return true;
  });
  return all;
}

std::string render(const std::string& text, const Record& r) { return FieldTemplate(text, "test").render(r); }

TEST(Csv, FollowsRfc4180) {
  TempDir dir;
  const auto path = dir.file("a.csv",
                             "\xEF\xBB\xBFname,text\r\n"
                             "one,\"a, \"\"quoted\"\" b\"\r\n"
                             "\r\n"
                             "two,\"first\r\nsecond\"\r\n"
                             "three,\r\n"
                             "\"\",it 5\" wide");
  const auto rows = records_of(path, "csv");
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[0].text("name"), "one");
  EXPECT_EQ(rows[0].text("text"), "a, \"quoted\" b");
  EXPECT_EQ(rows[1].text("text"), "first\r\nsecond");
  EXPECT_EQ(rows[1].where(), path + ":4");
  EXPECT_EQ(rows[2].text("text"), "");
  EXPECT_EQ(rows[3].where(), path + ":7");
  EXPECT_EQ(rows[3].text("0"), "");
  EXPECT_EQ(rows[3].text("1"), "it 5\" wide");
}

TEST(Csv, SaysWhereItBreaks) {
  TempDir dir;
  expect_usage_error([&] { records_of(dir.file("a.csv", "a,b\n1,2\n1,2,3\n"), "csv"); },
                     {"a.csv:3: ", "expected 2 fields", "found 3"});
  expect_usage_error([&] { records_of(dir.file("b.csv", "a,b\n1,\"open\nmore\n"), "csv"); },
                     {"b.csv:2: ", "closing quote", "end of the file"});
  expect_usage_error([&] { records_of(dir.file("c.csv", "a,b\n1,\"x\"y\n"), "csv"); }, {"c.csv:2: ", "comma", "'y'"});
  EXPECT_TRUE(records_of(dir.file("d.csv", ""), "csv").empty());
  EXPECT_TRUE(records_of(dir.file("e.csv", "a,b\n"), "csv").empty());
}

TEST(Tsv, SplitsAtTabsAndNothingElse) {
  TempDir dir;
  const auto rows = records_of(dir.file("a.tsv", "s\tlabel\r\n\"He said\t1\r\n\t0\r\n a, b \"\t1"), "tsv");
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].text("s"), "\"He said");
  EXPECT_EQ(rows[1].text("s"), "");
  EXPECT_EQ(rows[1].text("label"), "0");
  EXPECT_EQ(rows[2].text("s"), " a, b \"");
  const auto bare = records_of(dir.file("b.tsv", "gj04\t1\t\tThe ropes.\n"), "tsv", false);
  ASSERT_EQ(bare.size(), 1u);
  EXPECT_EQ(render("{3} -> {1}", bare[0]), "The ropes. -> 1");
  expect_usage_error([&] { bare[0].text("4"); }, {"b.tsv:1: ", "\"4\"", "4 columns without names"});
  expect_usage_error([&] { records_of(dir.file("c.tsv", "a\tb\nonly\n"), "tsv"); },
                     {"c.tsv:2: ", "expected 2", "found 1"});
}

TEST(Tsv, RefusesAnAmbiguousColumn) {
  TempDir dir;
  const auto rows = records_of(dir.file("a.tsv", "x\tx\n1\t2\n"), "tsv");
  expect_usage_error([&] { rows[0].text("x"); }, {"a.tsv:2: ", "two columns", "\"x\""});
  EXPECT_EQ(rows[0].text("1"), "2");
}

TEST(Jsonl, ReadsLinesOrOneArray) {
  TempDir dir;
  const auto lines =
      records_of(dir.file("a.jsonl", "{\"a\": \"x\", \"n\": 3, \"b\": true}\r\n\n{\"a\": \"\"}"), "jsonl");
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(render("{a}/{n}/{b}", lines[0]), "x/3/true");
  EXPECT_EQ(lines[1].where(), (dir / "a.jsonl") + ":3");
  EXPECT_EQ(lines[1].text("a"), "");
  const auto items = records_of(dir.file("b.json", "\n[{\"a\": \"x\"},\n {\"a\": \"y\"}]\n"), "jsonl");
  ASSERT_EQ(items.size(), 2u);
  EXPECT_EQ(items[1].where(), (dir / "b.json") + ": item 2");
}

TEST(Jsonl, ReachesNestedValuesAndJoinsLists) {
  TempDir dir;
  const auto r = records_of(
      dir.file("a.jsonl",
               R"({"t": [["s", "p", "o"], ["a", "b", 1]], "x": {"y": [{"z": "deep"}]}, "x.y": "own", "o": {}})"),
      "jsonl");
  EXPECT_EQ(r[0].text("t"), "s : p : o | a : b : 1");
  EXPECT_EQ(r[0].text("t.1.0"), "a");
  EXPECT_EQ(r[0].text("x.y"), "own");
  EXPECT_EQ(r[0].text("x.y.0.z"), "deep");
  EXPECT_FALSE(r[0].has("x.y.1.z"));
  EXPECT_FALSE(r[0].has("t.-1"));
  expect_usage_error([&] { r[0].text("o"); }, {"a.jsonl:1: ", "\"o\"", "object", "{o.key}"});
  expect_usage_error([&] { r[0].text("q"); }, {"a.jsonl:1: ", "\"q\"", "[o, t, x, x.y]"});
}

TEST(Jsonl, SaysWhereItBreaks) {
  TempDir dir;
  const auto read = [&](const std::string& name, const std::string& bytes) {
    return [&dir, name, bytes] { records_of(dir.file(name, bytes), "jsonl"); };
  };
  expect_usage_error(read("a.jsonl", "{\"a\": 1}\n{\"a\": \n"), {"a.jsonl:2: ", "JSON object per line", "parse error"});
  expect_usage_error(read("b.jsonl", "{\"a\": 1}\n7\n"), {"b.jsonl:2: ", "object", "number"});
  expect_usage_error(read("c.json", "[{}, []]"), {"c.json: item 2", "object", "array"});
  expect_usage_error(read("d.json", "[{}"), {"d.json", "JSON"});
  expect_usage_error(read("e.jsonl", "{\"a\": \"\\ud800\"}\n"), {"e.jsonl:1: "});
  expect_usage_error(read("f.jsonl", std::string(100000, '{')), {"f.jsonl:1: "});
  expect_usage_error(read("g.jsonl", "{\"a\": " + std::string(100000, '[')), {"g.jsonl:1: "});
  const auto r = records_of(dir.file("h.jsonl", "{\"a\": null}"), "jsonl");
  expect_usage_error([&] { r[0].text("a"); }, {"h.jsonl:1: ", "null"});
}

TEST(FieldTemplate, KnowsBracesAndRefusesBrokenOnes) {
  const Record r = Record::object("x:1", Json{{"a", "1"}, {"#1 String", "two"}});
  EXPECT_EQ(render("{a}###{#1 String}", r), "1###two");
  EXPECT_EQ(render("{{\"k\": {a}}}", r), "{\"k\": 1}");
  EXPECT_EQ(render("{a}\\n=>\\t\\\\n\\d", r), "1\n=>\t\\n\\d") << "escapes, which shells hand on as they are";
  EXPECT_EQ(render("{a}", Record::object("x:1", Json{{"a", "\\n"}})), "\\n") << "but not in what records hold";
  expect_usage_error([] { FieldTemplate("{a", "data.prompt"); }, {"data.prompt", "\"{a\""});
  expect_usage_error([] { FieldTemplate("a}", "data.prompt"); }, {"data.prompt"});
  expect_usage_error([] { FieldTemplate("{}", "data.prompt"); }, {"data.prompt"});
  expect_usage_error([] { FieldTemplate("a field", "data.prompt"); }, {"data.prompt", "braces"});
}

}  // namespace
}  // namespace molt::data
