// molt compare
#include <memory>

#include "molt/app/compare.h"
#include "molt/cli/comparison_table.h"
#include "molt/cli/verbs.h"

namespace molt::cli {
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
    options.on_steps = watch_interrupts;
    options.should_stop = [] { return interrupted.load(); };
    const app::CompareResult result = app::run_comparison(o->recipe, o->overrides, o->only, options);
    if (!result.finished) throw CLI::RuntimeError(130);
    print_comparison(result.report);
    std::printf("report: %s\n", result.page.c_str());
  });
}

}  // namespace molt::cli
