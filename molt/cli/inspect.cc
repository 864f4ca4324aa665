// molt inspect
#include <memory>

#include "molt/app/inspect.h"
#include "molt/app/layer_pattern.h"
#include "molt/base/format.h"
#include "molt/cli/table.h"
#include "molt/cli/verbs.h"

namespace molt::cli {
namespace {

/// Values may have several lines; the label stands before the first.
void print_facts(const train::Facts& facts) {
  Table table({"", ""});
  std::string before;
  for (const auto& [name, value] : facts) {
    std::string label = name == before ? "" : name;
    before = name;
    for (size_t begin = 0; begin <= value.size();) {
      const size_t end = std::min(value.find('\n', begin), value.size());
      table.row({label, value.substr(begin, end - begin)});
      label.clear();
      begin = end + 1;
    }
  }
  table.print();
}

/// What an adapter holds, part by part.
void print_parts(const std::vector<app::PartRow>& parts) {
  Table table({"part", ">parts", "each holds", ">numbers", ">bytes"});
  for (const app::PartRow& row : parts)
    table.row(
        {row.pattern, format_integer(row.parts), row.holds, format_integer(row.numbers), format_bytes(row.bytes)});
  table.print();
}

void print_tensors(const std::vector<app::TensorRow>& tensors, bool each) {
  Table table({"tensor", "dtype", "shape", ">numbers", ">bytes"});
  std::vector<std::string> names, kinds;
  for (const app::TensorRow& t : tensors) {
    names.push_back(t.name);
    kinds.push_back(each ? t.name : t.dtype + shape_str(t.shape));
  }
  for (const app::PatternGroup& group : app::group_by_layer(names, kinds)) {
    const app::TensorRow& first = tensors[group.members[0]];
    const auto count = static_cast<int64_t>(group.members.size());
    const std::string times = count > 1 ? str(count, " x ") : "";
    table.row({group.pattern, first.dtype, times + shape_str(first.shape), format_integer(count * first.numbers),
               format_bytes(count * first.bytes)});
  }
  table.print();
}

}  // namespace

void add_inspect(CLI::App& app) {
  struct Options {
    std::string path, base;
    bool tensors = false, each = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("inspect", "Show what a model, an adapter, a run or a file of tensors holds");
  verb->add_option("path", o->path, "a directory of one of these, or a .safetensors, .gguf or .bin file")->required();
  verb->add_option("--model", o->base, "an adapter's base, where it is not at the path the adapter names");
  verb->add_flag("--tensors", o->tensors, "also the tensors of a model or adapter (a file's are always shown)");
  verb->add_flag("--all", o->each, "tensors of every layer on a line of their own");
  verb->callback([o] {
    const app::Inspection found = app::inspect(o->path, o->base);
    std::printf("%s: %s\n", o->path.c_str(), found.kind.c_str());
    print_facts(found.facts);
    if (!found.parts.empty()) {
      std::printf("\n");
      print_parts(found.parts);
    }
    if (!found.tensors.empty() && (o->tensors || o->each || found.kind == "tensor file")) {
      std::printf("\n");
      print_tensors(found.tensors, o->each);
    }
    for (const std::string& note : found.notes) std::printf("note: %s\n", note.c_str());
    std::fflush(stdout);
    for (const std::string& problem : found.problems) to_stderr("molt: problem: " + problem + "\n");
    if (!found.problems.empty()) throw CLI::RuntimeError(2);
  });
}

}  // namespace molt::cli
