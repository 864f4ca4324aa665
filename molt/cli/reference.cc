// molt reference
#include "molt/app/reference.h"
#include "molt/cli/verbs.h"

namespace molt::cli {

void add_reference(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("reference", "Print every key of a recipe as Markdown");
  verb->callback([] {
    const std::string page = app::reference_page();
    std::fwrite(page.data(), 1, page.size(), stdout);
  });
}

}  // namespace molt::cli
