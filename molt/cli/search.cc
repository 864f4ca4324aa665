// molt search
#include <memory>

#include "molt/app/search.h"
#include "molt/cli/comparison_table.h"
#include "molt/cli/verbs.h"

namespace molt::cli {

void add_search(CLI::App& app) {
  struct Options {
    std::string recipe;
    std::vector<std::string> overrides;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb =
      app.add_subcommand("search", "Find a combination of methods, and settings for it, on validation data");
  verb->add_option("recipe", o->recipe, "recipe file with a map `search:` of candidates")->required();
  verb->add_option("overrides", o->overrides, "key=value pairs that replace the recipe's");
  verb->callback([o] {
    app::TrainRunOptions options;
    options.tty = terminal().tty;
    options.width = terminal().width;
    options.sink = to_stderr;
    options.on_steps = watch_interrupts;
    options.should_stop = [] { return interrupted.load(); };
    const app::SearchResult result = app::run_search(o->recipe, o->overrides, options);
    if (!result.finished) throw CLI::RuntimeError(130);
    print_comparison(result.report);
    std::printf("best: %s\nrecipe: %s\nreport: %s\n", result.winner.c_str(), result.recipe.c_str(),
                result.page.c_str());
  });
}

}  // namespace molt::cli
