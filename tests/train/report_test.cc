// The pages: what they show, that they need nothing else, that text stays text. Set MOLT_REPORT_DIR to keep the example
// pages for a look in a browser.
#include "molt/train/report.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>
#include <tuple>

#include "molt/base/file.h"
#include "molt/base/json.h"
#include "molt/train/html.h"
#include "tests/train/report_example.h"
#include "tests/train/temporary.h"

namespace molt::train {
namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// Every element that is opened is closed, in order. Content of <script> and <style> is skipped, as a browser does.
void expect_balanced(const std::string& html) {
  std::vector<std::string> open;
  for (size_t at = html.find('<'); at != std::string::npos; at = html.find('<', at)) {
    if (html.compare(at, 2, "<!") == 0) {
      at = html.find('>', at);
      continue;
    }
    const bool closes = html[at + 1] == '/';
    size_t end = at + 1 + closes;
    while (std::isalnum(static_cast<unsigned char>(html[end]))) ++end;
    const std::string name = html.substr(at + 1 + closes, end - at - 1 - closes);
    ASSERT_FALSE(name.empty()) << "a bare < at: " << html.substr(at, 60);
    const size_t close = html.find('>', end);
    ASSERT_NE(close, std::string::npos);
    const bool empty = html[close - 1] == '/' || name == "meta" || name == "link";
    if (closes) {
      ASSERT_FALSE(open.empty()) << "</" << name << "> without a start";
      ASSERT_EQ(open.back(), name) << html.substr(at > 200 ? at - 200 : 0, 260);
      open.pop_back();
    } else if (name == "script" || name == "style") {
      at = html.find("</" + name, close) + 1;
      continue;
    } else if (!empty) {
      open.push_back(name);
    }
    at = close;
  }
  EXPECT_TRUE(open.empty()) << "not closed: " << open.back();
}

/// The data of the page's drawings, in order.
std::vector<Json> chart_data(const std::string& html) {
  std::vector<Json> data;
  const std::string mark = "<script type=\"application/json\">";
  for (size_t at = html.find(mark); at != std::string::npos; at = html.find(mark, at + 1)) {
    const size_t from = at + mark.size();
    data.push_back(parse_json(html.substr(from, html.find("</script>", from) - from), "chart"));
  }
  return data;
}

/// Nothing in the page makes a browser fetch anything, and its data is JSON.
void expect_self_contained(const std::string& html) {
  std::string rest = html;
  const std::string name_space = "http://www.w3.org/2000/svg";  // a name, which nobody fetches
  for (size_t at = rest.find(name_space); at != std::string::npos; at = rest.find(name_space))
    rest.erase(at, name_space.size());
  for (const char* part : {"http://", "https://", "@import", "<iframe", "<img", "<object", "src=", "fetch(", "XMLHttp"})
    EXPECT_FALSE(contains(rest, part)) << part;
  chart_data(html);
  for (const std::string attribute :
       {" d=\"", " x=\"", " y=\"", " cx=\"", " cy=\"", " width=\"", " height=\"", "style=\""}) {
    for (size_t at = html.find(attribute); at != std::string::npos; at = html.find(attribute, at + 1)) {
      const size_t from = at + attribute.size();
      const std::string value = html.substr(from, html.find('"', from) - from);
      EXPECT_FALSE(contains(value, "nan") || contains(value, "inf")) << attribute << value;
    }
  }
}

void check(const std::string& html) {
  expect_balanced(html);
  expect_self_contained(html);
}

TEST(Report, ExamplePagesAreWholeAndShowWhatTheyWereGiven) {
  TemporaryDirectory dir;
  const char* keep = std::getenv("MOLT_REPORT_DIR");
  const std::string where = keep ? keep : dir.path(), run = report_page(example_report()),
                    all = report_page(example_comparison());
  write_file_atomic(where + "/report.html", run);
  write_file_atomic(where + "/comparison.html", all);
  check(run);
  check(all);
  for (const char* part :
       {"mamba-130m", "1,228,800 of 130,363,904", "129 M parameters", "0.943 %", "Learning rate", "Gradient norm",
        "✗ wrong", "AMX (bf16, int8)", "<span class=\"yk\">learning_rate</span>: 2e-3", "3 samples longer than 512"})
    EXPECT_TRUE(contains(run, part)) << part;
  for (const char* part : {"Prompt tuning", "0.0095 %", "<span class=\"best\">0.5070</span>", "1 of 8 failed",
                           "stopped at step 40", "Evaluation loss", "% trainable", "href=\"run-110/report.html\""})
    EXPECT_TRUE(contains(all, part)) << part;
  EXPECT_EQ(run, report_page(example_report())) << "a page depends on its argument alone";
}

TEST(Report, NotToTrainIsNoRecordInMemory) {
  ComparisonReport r;
  for (const auto& [name, trainable, mebibytes] :
       {std::tuple("none", 0, 100), std::tuple("small", 10, 200), std::tuple("large", 1000, 300)}) {
    MethodResult m;
    m.name = name;
    m.trainable_parameters = trainable, m.total_parameters = 1000;
    m.peak_memory_bytes = int64_t{mebibytes} << 20;
    r.methods.push_back(m);
  }
  const std::string page = report_page(r);
  EXPECT_TRUE(contains(page, "<span class=\"best\">200 MiB</span>"));
  EXPECT_TRUE(contains(page, "100 MiB"));
  r.methods.resize(1);
  EXPECT_TRUE(contains(report_page(r), "100 MiB"));
}

TEST(Report, EmptyAndPartialRunsGivePages) {
  check(report_page(RunReport{}));
  check(report_page(ComparisonReport{}));
  RunReport one_step;
  add_metrics(one_step, {example_step(1, 10, 1, 1)});
  check(report_page(one_step));
  EXPECT_EQ(one_step.steps, 1);
  const std::string text = "m";
  for (int cards = 1; cards <= 7; ++cards) {
    RunReport r;
    r.model = text;
    if (cards > 1) r.method = text;
    if (cards > 2) r.wall_seconds = 1;
    if (cards > 3) r.peak_memory_bytes = 1;
    if (cards > 4) r.tokens_per_second = 1;
    if (cards > 5) r.total_parameters = 1;
    if (cards > 6) r.best_score = 1;
    check(report_page(r));
  }
  ComparisonReport failed;
  failed.methods.resize(2);
  failed.methods[0].failure = "no memory";
  check(report_page(failed));
}

TEST(Report, DivergedRunsGivePages) {
  RunReport r;
  std::vector<MetricsRecord> log;
  for (int64_t step = 1; step <= 300; ++step) {
    StepRecord s = example_step(step, 300, 1, 3);
    if (step == 150) s.loss = 1e30, s.grad_norm = std::numeric_limits<double>::infinity();
    if (step > 200) s.loss = s.grad_norm = std::nan("");
    log.push_back(s);
  }
  log.push_back(EvalRecord{300, "validation", {{"loss", std::nan("")}}});
  add_metrics(r, log);
  const std::string html = report_page(r);
  check(html);
  // Steps 201 to 300 and the evaluation.
  EXPECT_TRUE(contains(html, "1 value is beyond the axis; 101 values are not a finite number"));
  const std::vector<Json> charts = chart_data(html);
  ASSERT_GE(charts.size(), 1u);
  const Json& loss = charts[0];
  EXPECT_LT(loss["y"][1].get<double>(), 6) << "the spike must not flatten the rest of the curve";
  ASSERT_EQ(loss["series"].size(), 2u);
  EXPECT_EQ(loss["series"][0]["name"], "train, smoothed");
  for (const Json& point : loss["series"][0]["points"]) {
    // The curve falls from 3.4 to 1.1; the spike may lift its window of 15 steps by at most 2 * 2.3 / 15 or so.
    EXPECT_GT(point[1].get<double>(), 0.8);
    EXPECT_LT(point[1].get<double>(), 4);
  }
  ComparisonReport c = example_comparison();
  c.methods[0].train_loss = r.train_loss;
  c.methods[0].scores = {{"bleu", std::nan("")}};
  c.methods[1].eval_loss = std::numeric_limits<double>::infinity();
  check(report_page(c));
}

TEST(Report, AScoreOfZeroHasNoBar) {
  ComparisonReport c;
  c.score_name = "exact_match";
  for (const char* name : {"a", "b"}) {
    MethodResult m;
    m.name = name;
    m.scores = {{"exact_match", 0}};
    c.methods.push_back(m);
  }
  const std::string empty = "<i style=\"width:0.0%\">", full = "<i style=\"width:100.0%\">";
  EXPECT_TRUE(contains(report_page(c), empty));
  EXPECT_FALSE(contains(report_page(c), full));
  c.methods[1].scores[0].second = 0.5;
  EXPECT_TRUE(contains(report_page(c), empty));
  EXPECT_TRUE(contains(report_page(c), full));
}

TEST(Report, TextStaysText) {
  const std::string evil = "</script></td><script>alert(1)</script><img src=x onerror=alert(1)>\"'&\xff\x01";
  RunReport r = example_report(48);
  r.title = r.model = r.method = r.task = r.status = r.score_name = r.created = r.recipe = evil;
  r.best_score = 1;
  r.samples.push_back({evil, evil, evil + " x", false});
  r.samples.push_back({evil, evil, evil, true});
  r.evaluations.push_back({1, evil, {{evil, 1}}});
  r.evaluations.push_back({2, evil, {{evil, 2}}});
  r.eval_loss.push_back({evil, {{1, 1}, {2, 2}}});
  r.notes.push_back({1, evil});
  r.environment.push_back({evil, evil});
  ComparisonReport c = example_comparison();
  c.title = c.model = c.task = c.created = c.recipe = c.score_name = evil;
  for (MethodResult& m : c.methods) {
    m.name = m.detail = m.link = evil;
    m.scores.push_back({evil, static_cast<double>(m.trainable_parameters)});
  }
  c.methods.back().failure = evil;
  for (const std::string& html : {report_page(r), report_page(c)}) {
    expect_balanced(html);
    EXPECT_FALSE(contains(html, "<script>alert"));
    EXPECT_FALSE(contains(html, "<img"));
    EXPECT_FALSE(contains(html, "\xff"));
    EXPECT_TRUE(contains(html, "&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;\xef\xbf\xbd\xe2\x90\x81"));
  }
}

TEST(Report, MetricsFillTheSummary) {
  RunReport r;
  r.score_name = "bleu";
  r.peak_memory_bytes = int64_t{900} << 20;
  StepRecord a, b;
  a.step = 1, a.tokens = 100, a.tokens_per_second = 100, a.seconds = 1.5, a.memory_mib = 500;
  b.step = 2, b.tokens = 300, b.tokens_per_second = 100, b.seconds = 5, b.memory_mib = 700, b.epoch = 0.5;
  add_metrics(r, {a, EvalRecord{1, "dev", {{"bleu", 0.3}, {"loss", 2}}}, b,
                  EvalRecord{2, "dev", {{"bleu", 0.2}, {"loss", 1}}}, NoteRecord{2, "done"}});
  EXPECT_EQ(r.steps, 2);
  EXPECT_EQ(r.epochs, 0.5);
  EXPECT_EQ(r.tokens, 400);
  EXPECT_DOUBLE_EQ(r.tokens_per_second, 100);
  EXPECT_EQ(r.wall_seconds, 5);
  EXPECT_EQ(r.peak_memory_bytes, int64_t{900} << 20) << "a peak measured otherwise stays";
  EXPECT_EQ(r.best_score, 0.3);
  EXPECT_EQ(r.best_step, 1);
  ASSERT_EQ(r.eval_loss.size(), 1u);
  EXPECT_EQ(r.eval_loss[0].points.size(), 2u);
  EXPECT_EQ(r.notes.size(), 1u);
  RunReport loss;
  loss.score_name = "loss";
  add_metrics(loss, {EvalRecord{1, "dev", {{"loss", 2}}}, EvalRecord{2, "dev", {{"loss", 1}}},
                     EvalRecord{3, "dev", {{"loss", std::nan("")}}}});
  EXPECT_EQ(loss.best_score, 1);
}

TEST(Report, SaysAnEvaluationOnce) {
  RunReport r;
  const EvalRecord last{20, "validation", {{"loss", 1.5}}};
  EvalRecord more = last;
  more.values.push_back({"accuracy", 0.5});
  const EvalRecord other{20, "validation", {{"loss", 1.25}}};
  add_metrics(r, {EvalRecord{10, "validation", {{"loss", 1.5}}}, last, last, more, other});
  ASSERT_EQ(r.evaluations.size(), 3u) << "one row for the same data at the same step with the same loss";
  EXPECT_EQ(r.evaluations[1].values.size(), 2u);
  EXPECT_EQ(r.eval_loss.at(0).points.size(), 3u);
}

TEST(Report, LossAloneIsDrawnAgainstTheShare) {
  ComparisonReport r;
  for (const int i : {1, 2}) {
    MethodResult m;
    m.name = str("method ", i);
    m.trainable_parameters = 10 * i, m.total_parameters = 1000;
    m.eval_loss = 3.0 - i;
    r.methods.push_back(m);
  }
  const std::string page = report_page(r);
  EXPECT_TRUE(contains(page, "eval loss against trainable share"));
  EXPECT_TRUE(contains(page, "lower is better"));
  check(page);
}

TEST(Report, StepsAreWhole) {
  RunReport r;
  for (int step = 1; step <= 4; ++step) r.train_loss.push_back({static_cast<double>(step), 1.0 / step});
  const std::string page = report_page(r);
  EXPECT_TRUE(contains(page, ">2</text>"));
  EXPECT_FALSE(contains(page, ">2.0</text>"));
}

TEST(Report, KnowsWhichMetricsShouldFall) {
  for (const char* name : {"loss", "eval_loss", "Perplexity", "error_rate", "wer", "outside_classes"})
    EXPECT_TRUE(lower_is_better(name)) << name;
  for (const char* name : {"accuracy", "bleu", "rougeL", "f1", "matthews", "power", "answer"})
    EXPECT_FALSE(lower_is_better(name)) << name;
}

TEST(Report, LongRunsStaySmall) {
  RunReport r;
  std::vector<MetricsRecord> log;
  for (int64_t step = 1; step <= 50000; ++step) log.push_back(example_step(step, 50000, 1, 3));
  add_metrics(r, log);
  const std::string html = report_page(r);
  // Four charts of at most two curves of 722 points, each point some 14 bytes as a path and 16 as data.
  EXPECT_LT(html.size(), 300000u);
  check(html);
}

TEST(Html, EscapesAndRepairsUtf8) {
  EXPECT_EQ(escape_html("a<b>&\"'c"), "a&lt;b&gt;&amp;&quot;&#39;c");
  EXPECT_EQ(escape_html("é€😀\n\t"), "é€😀\n\t");
  const std::string bad = "\xef\xbf\xbd";
  EXPECT_EQ(escape_html("\x80"), bad);
  EXPECT_EQ(escape_html("\xc0\xaf"), bad + bad) << "overlong";
  EXPECT_EQ(escape_html("\xed\xa0\x80"), bad + bad + bad) << "surrogate";
  EXPECT_EQ(escape_html("\xf4\x90\x80\x80"), bad + bad + bad + bad) << "past the last code point";
  EXPECT_EQ(escape_html("x\xe2\x82"), "x" + bad + bad) << "cut short";
  EXPECT_EQ(escape_html(std::string(1, '\0') + "\x7f"), "␀␡");
}

TEST(Html, ScriptDataCannotEndTheScript) {
  const std::string text = script_json(Json{{"a", "</script><!--\xff"}});
  EXPECT_FALSE(contains(text, "<"));
  EXPECT_EQ(parse_json(text, "t")["a"], "</script><!--\xef\xbf\xbd");
}

TEST(Html, DifferencesAreMarkedByWord) {
  const MarkedPair pair = mark_difference("a cheap French place", "a dear French  place now");
  EXPECT_EQ(pair.expected, "a <mark class=\"miss\">cheap</mark> French place");
  EXPECT_EQ(pair.generated, "a <mark class=\"extra\">dear</mark> French  place <mark class=\"extra\">now</mark>");
  EXPECT_EQ(mark_difference("same <", "same <").generated, "same &lt;");
  EXPECT_EQ(mark_difference("", " x ").generated, " <mark class=\"extra\">x</mark> ");
  EXPECT_EQ(mark_difference("x", "").expected, "<mark class=\"miss\">x</mark>");
}

TEST(Html, YamlIsColouredAndEscaped) {
  const std::string html = yaml_block("a: <b>  # note\n- key: 1\n# whole\nurl: http://x\n\"q: r\"\n");
  EXPECT_TRUE(contains(html, "<span class=\"yk\">a</span>: &lt;b&gt; <span class=\"yc\"> # note</span>"));
  EXPECT_TRUE(contains(html, "- <span class=\"yk\">key</span>: 1"));
  EXPECT_TRUE(contains(html, "<span class=\"yc\"># whole</span>"));
  EXPECT_TRUE(contains(html, "<span class=\"yk\">url</span>: http://x"));
  EXPECT_TRUE(contains(html, "&quot;q: r&quot;"));
}

}  // namespace
}  // namespace molt::train
