// A recipe, its methods' options, and an override (the line after "---override ").
#include "molt/app/methods.h"
#include "molt/app/recipe.h"
#include "tests/fuzz/target.h"

MOLT_FUZZ_TARGET(recipe) {
  using namespace molt;
  constexpr std::string_view kMark = "\n---override ";
  const size_t mark = bytes.find(kMark);
  app::YamlNode root = app::YamlNode::parse(std::string(bytes.substr(0, mark)), "recipe.yaml");
  if (mark != std::string_view::npos) root.apply(std::string(bytes.substr(mark + kMark.size())));
  const app::Recipe recipe = app::Recipe::from(root, "recipe");
  app::make_methods(recipe.methods, 1, Dtype::kF32);
  recipe.resolved().dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}
