// molt train
#include <memory>

#include "molt/app/train_run.h"
#include "molt/base/format.h"
#include "molt/cli/verbs.h"

namespace molt::cli {

void add_train(CLI::App& app) {
  struct Options {
    std::string recipe;
    std::vector<std::string> overrides;
    bool resume = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("train", "Fine-tune a model, or train one from scratch, as a recipe says");
  verb->add_option("recipe", o->recipe, "recipe file (YAML)")->required();
  verb->add_option("overrides", o->overrides, "key=value pairs that replace the recipe's, such as learning_rate=1e-3");
  verb->add_flag("--resume", o->resume, "go on from the run directory's last checkpoint");
  verb->callback([o] {
    const app::Recipe recipe = app::Recipe::read(o->recipe, o->overrides);
    app::TrainRunOptions options;
    options.resume = o->resume;
    options.tty = terminal().tty;
    options.width = terminal().width;
    options.sink = to_stderr;
    options.on_steps = watch_interrupts;
    options.should_stop = [] { return interrupted.load(); };
    const app::TrainRunResult result = app::run_training(recipe, options);
    if (!result.finished) throw CLI::RuntimeError(130);
    if (result.judgement.examples > 0) std::printf("%-24s %s\n", "judged on", result.judgement.describe().c_str());
    for (const auto& [name, value] : result.judgement.scores)
      std::printf("%-24s %s\n", name.c_str(), format_significant(value, 5).c_str());
    std::printf("%-24s %s\n%-24s %s\n", "written", result.product.c_str(), "report",
                (result.run_dir + "/report.html").c_str());
  });
}

}  // namespace molt::cli
