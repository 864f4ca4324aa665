// molt compare
#include <algorithm>
#include <memory>

#include "molt/app/compare.h"
#include "molt/base/format.h"
#include "molt/cli/verbs.h"

namespace molt::cli {
namespace {

void print_table(const train::ComparisonReport& report) {
  std::vector<std::vector<std::string>> rows = {{"method", "trainable", "share"}};
  for (const auto& [name, value] : report.methods[0].scores) rows[0].push_back(name);
  for (const char* name : {"loss", "tokens/s", "time", "memory"}) rows[0].push_back(name);
  for (const train::MethodResult& m : report.methods) {
    std::vector<std::string> row = {m.name, m.trainable_parameters ? format_integer(m.trainable_parameters) : "-",
                                    format_percent(static_cast<double>(m.trainable_parameters) /
                                                   static_cast<double>(std::max<int64_t>(1, m.total_parameters)))};
    for (const auto& [name, value] : m.scores) row.push_back(format_fixed(value, 3));
    row.push_back(m.eval_loss ? format_fixed(*m.eval_loss, 3) : "-");
    row.push_back(m.tokens_per_second > 0 ? format_count(m.tokens_per_second) : "-");
    row.push_back(m.seconds > 0 ? format_duration(m.seconds) : "-");
    row.push_back(format_bytes(m.peak_memory_bytes));
    rows.push_back(std::move(row));
  }
  std::vector<size_t> widths(rows[0].size(), 0);
  for (const auto& row : rows) {
    for (size_t i = 0; i < std::min(row.size(), widths.size()); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < std::min(row.size(), widths.size()); ++i) {
      const std::string pad(widths[i] - row[i].size(), ' ');
      line += (i ? "  " : "") + (i == 0 ? row[i] + pad : pad + row[i]);
    }
    std::printf("%s\n", line.c_str());
  }
}

}  // namespace

void add_compare(CLI::App& app) {
  struct Options {
    std::string recipe;
    std::vector<std::string> overrides, only;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("compare", "Run one task under several methods: one table, one report");
  verb->add_option("recipe", o->recipe, "recipe file with a list `compare:` of variants")->required();
  verb->add_option("overrides", o->overrides, "key=value pairs that replace the recipe's");
  verb->add_option("--only", o->only, "names of the variants to run")->delimiter(',')->allow_extra_args(false);
  verb->callback([o] {
    app::TrainRunOptions options;
    options.tty = terminal().tty;
    options.width = terminal().width;
    options.sink = to_stderr;
    watch_interrupts();
    options.should_stop = [] { return interrupted.load(); };
    const app::CompareResult result = app::run_comparison(o->recipe, o->overrides, o->only, options);
    if (!result.finished) throw CLI::RuntimeError(130);
    print_table(result.report);
    std::printf("report: %s\n", result.page.c_str());
  });
}

}  // namespace molt::cli
