#include "molt/app/reference.h"

#include <algorithm>

#include "molt/app/methods.h"
#include "molt/app/options.h"
#include "molt/app/recipe.h"

namespace molt::app {
namespace {

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '|' ? std::string("\\|") : std::string(1, c);
  return out;
}

void table(std::string& page, const std::vector<Option>& rows) {
  page += "| key | type | default | meaning |\n| --- | --- | --- | --- |\n";
  for (const Option& o : rows) {
    const std::string value = o.type == "group" ? "" : str("`", escaped(o.value), "`");
    page += "| `" + o.key + "` | " + o.type + " | " + value + " | " + escaped(o.help) + " |\n";
  }
}

void group_sections(std::string& page, const OptionList& list, const std::string& prefix) {
  for (const auto& [name, inner] : list.groups()) {
    page += "\n## `" + prefix + name + ":`\n\n";
    const auto row =
        std::find_if(list.rows().begin(), list.rows().end(), [&key = name](const Option& o) { return o.key == key; });
    page += "What it is for: " + row->help + ".\n\n";
    table(page, inner.rows());
    group_sections(page, inner, prefix + name + ".");
  }
}

}  // namespace

std::string reference_page() {
  std::string page =
      "# Every key of a recipe\n\n"
      "Written by `molt reference` from the structs that read recipes; do not edit it.\n\n"
      "A recipe is a YAML file. On the command line `KEY=VALUE` replaces a value, with dots for what lies deeper:\n"
      "`learning_rate=1e-3 data.limit=100 method.lora.r=4`. A key that is not here is an error. `method:` is a name, "
      "a\n"
      "map from name to options, or a list of either (`methods:` is the same); options are under "
      "[methods](#methods).\n\n"
      "## The run\n\n";
  const OptionList recipe = options_of(Recipe()), training = options_of(train::TrainConfig());
  const auto is_training = [&](const Option& o) {
    return std::any_of(training.rows().begin(), training.rows().end(), [&](const Option& t) { return t.key == o.key; });
  };
  std::vector<Option> run;
  for (const Option& o : recipe.rows()) {
    if (!is_training(o)) run.push_back(o);
  }
  run.push_back({"method", "group", "", "what trains: names of methods with their options"});
  table(page, run);
  page += "\n## Training\n\nThese stand at the top level too.\n\n";
  table(page, training.rows());
  group_sections(page, recipe, "");
  page += "\n## Methods\n\nWhat each does: [methods.md](methods.md). Every method takes these beside its own:\n\n";
  table(page, common_options().rows());
  for (const std::string& name : method_names()) {
    page += "\n### `" + name + "`\n\n" + method_summary(name) + ".\n\n";
    table(page, method_options(name).rows());
  }
  return page;
}

}  // namespace molt::app
