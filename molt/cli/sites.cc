// molt sites
#include <memory>

#include "molt/app/recipe.h"
#include "molt/app/site_groups.h"
#include "molt/base/format.h"
#include "molt/cli/table.h"
#include "molt/cli/verbs.h"

namespace molt::cli {
namespace {

std::string slices_text(const nn::Site& site) {
  std::string text;
  for (const nn::Slice& s : site.slices) text += (text.empty() ? "" : " ") + s.name + ":" + std::to_string(s.size);
  return text;
}

std::string note(const nn::Site& site) {
  const std::string shared = app::shares_weight_with(site);
  std::string text = site.ssm ? "ssm" : "";
  if (site.bias) text += (text.empty() ? "" : ", ") + std::string("bias");
  if (!shared.empty()) text += (text.empty() ? "" : ", ") + ("shares the weight of " + shared);
  return text;
}

void print_all(const nn::LanguageModel& model, bool each) {
  Table table({"target", "kind", "shape", "slices", "notes"});
  auto put = [&](const std::string& label, const nn::Site& site) {
    table.row({label, nn::site_kind_name(site.kind), shape_str(site.shape), slices_text(site), note(site)});
  };
  if (each) {
    for (const nn::Site& site : model.sites().all()) put(site.path, site);
  } else {
    for (const app::SiteGroup& group : app::group_sites(model.sites())) put(group.pattern, *group.first.site);
  }
  table.print();
  std::printf("\n");
  for (const nn::Preset& preset : nn::presets_of(model.sites())) {
    std::string names;
    const std::vector<nn::Target> targets = nn::match_target(model.sites(), preset.name, {nn::SiteKind::kLinear});
    for (const app::SiteGroup& group : app::group_targets(targets)) {
      const std::string name = group.pattern.substr(group.pattern.rfind('.') + 1);
      if ((", " + names + ",").find(", " + name + ",") == std::string::npos)
        names += (names.empty() ? "" : ", ") + name;
    }
    std::printf("%-10s  %s: %s\n", preset.name, preset.meaning, names.c_str());
  }
  std::printf(
      "\nA target is a path, the end of one after a dot (x_proj), a regular expression for a whole path, or a "
      "preset;\n"
      "NAME:SLICE picks a slice (x_proj:B). Shapes: linear (out, in), conv (channels, width), embedding (tokens, "
      "width).\n"
      "See what one means with --match TARGET.\n");
}

void print_match(models::LoadedModel& loaded, const std::string& target, bool each) {
  const app::TargetMatch match = app::explain_target(loaded, target);
  Table table({"target", "kind", "shape", "rows"});
  auto put = [&](const std::string& label, const nn::Target& t) {
    table.row({label, nn::site_kind_name(t.site->kind), shape_str(t.site->shape),
               t.slice ? str(t.begin(), " to ", t.begin() + t.size() - 1) : std::string("all")});
  };
  if (each) {
    for (const nn::Target& t : match.targets) put(t.label(), t);
  } else {
    for (const app::SiteGroup& group : app::group_targets(match.targets)) put(group.pattern, group.first);
  }
  table.print();
  std::printf("\n'%s' matches %zu %s\n", target.c_str(), match.targets.size(),
              match.targets.size() == 1 ? "target" : "targets");
  std::printf("lora: %s\n", match.lora.empty() ? "cannot act here (it needs linears)" : match.lora.c_str());
  std::printf("full: %s\n", match.full.empty() ? "cannot act here (it needs whole weights)" : match.full.c_str());
}

}  // namespace

void add_sites(CLI::App& app) {
  struct Options {
    std::string model, target;
    bool each = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("sites", "List what methods can target in a model");
  verb->add_option("model", o->model, "directory of a checkpoint")->required();
  verb->add_flag("--all", o->each, "every layer on a line of its own");
  verb->add_option("--match", o->target, "show what this target string means instead");
  verb->callback([o] {
    models::LoadedModel loaded = models::open_model(o->model, app::precision_from("auto", "auto"));
    if (o->target.empty()) {
      print_all(*loaded.model, o->each);
    } else {
      print_match(loaded, o->target, o->each);
    }
  });
}

}  // namespace molt::cli
