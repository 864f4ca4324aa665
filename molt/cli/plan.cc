// molt plan
#include <memory>

#include "molt/app/plan.h"
#include "molt/base/format.h"
#include "molt/cli/table.h"
#include "molt/cli/verbs.h"

namespace molt::cli {
namespace {

std::string share(const app::RunPlan& plan) {
  return format_percent(static_cast<double>(plan.trainable) / static_cast<double>(plan.total));
}

std::string rate(const app::RunPlan& plan, const app::PhasePlan& phase) {
  return phase.step_seconds > 0 ? format_count(plan.data.step_tokens / phase.step_seconds) + " tokens/s" : "-";
}

std::string memory_remark(const app::RunPlan& plan) {
  if (plan.kept_bytes > 0) return str("spans keep ", format_bytes(plan.kept_bytes), " of their first run");
  if (plan.data.most_pieces > 1) return "";  // pieces are not recomputed layer by layer
  const std::string other = format_bytes(plan.memory(!plan.recompute).total());
  if (plan.chosen) return "recompute: true because of max_memory; " + other + " without";
  return plan.recompute ? other + " without recompute" : other + " with recompute: true";
}

/// ", 3 spans before, products of 12 more".
std::string spans_remark(const app::RunPlan& plan) {
  std::string text;
  if (plan.kept.whole > 0) text += str(", ", plan.kept.whole, " spans before");
  if (plan.kept.products > 0)
    text += str(", products of ", plan.kept.products, plan.kept.whole > 0 ? " more" : " spans");
  return text;
}

/// "1 epoch", "2.5 epochs".
std::string counted(const std::string& number, const std::string& what) {
  return str(number, " ", what, number == "1" ? "" : "s");
}

/// One run, everything about it.
void print_run(const app::RunPlan& plan) {
  Table table({"", "", ">", ""});
  std::string section;
  auto row = [&](const std::string& head, const std::string& name, const std::string& value,
                 const std::string& remark = "") {
    table.row({head == section ? "" : head, name, value, remark});
    section = head;
  };
  table.row({"model", plan.model});
  table.row({"", str(plan.layers, " layers of width ", plan.d_model, ", vocabulary ", plan.vocabulary, "; weights in ",
                     app::dtype_word(plan.precision.base), ", products in ", app::dtype_word(plan.precision.compute))});
  const std::string head = table.text();
  std::fwrite(head.data(), 1, head.size(), stdout);
  std::printf("\n");

  table = Table({"", "", ">", ""});
  for (const app::MethodPlan& m : plan.methods) row("trains", m.name, format_integer(m.trainable), m.coverage);
  row("trains", "together", format_integer(plan.trainable), str(share(plan), " of ", format_integer(plan.total)));
  row("data", "examples", format_integer(plan.data.examples));
  row("data", "tokens", format_integer(plan.data.tokens),
      str(format_percent(static_cast<double>(plan.data.labelled) / static_cast<double>(plan.data.tokens)),
          " of them labelled"));
  row("data", "steps per epoch", format_significant(plan.data.steps_per_epoch, 6),
      str(format_significant(plan.data.step_tokens, 4), " tokens in a step"));
  for (const app::PhasePlan& p : plan.phases) {
    row("steps", p.name, format_integer(p.steps),
        plan.phases.size() > 1
            ? str(format_integer(p.trainable), " numbers train")
            : counted(format_significant(static_cast<double>(p.steps) / plan.data.steps_per_epoch, 3), "epoch"));
  }
  const app::MemoryPlan m = plan.memory();
  row("memory", "program and data", format_bytes(m.program));
  if (m.mapped > 0) row("memory", "table in its file", format_bytes(m.mapped), "as far as it is looked at");
  row("memory", "weights", format_bytes(m.weights));
  row("memory", "what trains", format_bytes(m.trainables + m.best), m.best > 0 ? "and a copy" : "");
  row("memory", "its gradients and moments", format_bytes(m.optimizer));
  row("memory", "kept for backward", format_bytes(m.saved),
      str("for ", plan.data.most_tokens, " tokens at a time", spans_remark(plan)));
  row("memory", "work space", format_bytes(m.work));
  row("memory", "together", format_bytes(m.total()), memory_remark(plan));
  for (const app::PhasePlan& p : plan.phases) {
    const std::string in = plan.phases.size() > 1 ? ", " + p.name : "";
    row("work", "per token" + in, format_si(p.step_flops / plan.data.step_tokens, "FLOP"));
    row("work", "per step" + in, format_si(p.step_flops, "FLOP"));
  }
  if (plan.seconds() > 0) {
    for (const app::PhasePlan& p : plan.phases) {
      row("time", plan.phases.size() > 1 ? "per step, " + p.name : "per step", format_duration(p.step_seconds),
          str(rate(plan, p), ", ", format_si(p.step_flops / p.step_seconds, "FLOP/s")));
    }
    row("time", "training", format_duration(plan.seconds() - plan.evaluation_seconds),
        str(format_integer(plan.steps()), " steps, at the speed measured just now"));
    if (plan.evaluations > 0)
      row("time", "validation", format_duration(plan.evaluation_seconds), counted(str(plan.evaluations), "time"));
  }
  table.print();
}

/// Several runs, one line for each.
void print_runs(const std::vector<app::RunPlan>& plans) {
  Table table({"run", ">trains", ">share", ">steps", ">memory", ">with recompute", ">FLOP/token", ">tokens/s",
               ">per step", ">training", ">validation"});
  for (const app::RunPlan& plan : plans) {
    if (plan.plain) {
      table.row({plan.name, "0", "0 %", "-"});
      continue;
    }
    const app::PhasePlan& p = plan.training();
    const bool timed = p.step_seconds > 0;
    table.row({plan.name, format_integer(plan.trainable), share(plan), format_integer(plan.steps()),
               format_bytes(plan.memory(false).total()), format_bytes(plan.memory(true).total()),
               format_si(p.step_flops / plan.data.step_tokens, ""),
               timed ? format_count(plan.data.step_tokens / p.step_seconds) : "-",
               timed ? format_duration(p.step_seconds) : "-",
               timed ? format_duration(plan.seconds() - plan.evaluation_seconds) : "-",
               timed ? format_duration(plan.evaluation_seconds) : "-"});
  }
  table.print();
}

}  // namespace

void add_plan(CLI::App& app) {
  struct Options {
    std::string recipe;
    std::vector<std::string> overrides;
    bool json = false, quick = false;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("plan", "Say what a recipe will train, and what memory and time it will take");
  verb->add_option("recipe", o->recipe, "recipe file (YAML); one with `compare:` gets a line for each variant")
      ->required();
  verb->add_option("overrides", o->overrides, "key=value pairs that replace the recipe's");
  verb->add_flag("--json", o->json, "every number, for programs: bytes, FLOPs, seconds");
  verb->add_flag("--quick", o->quick, "do not measure speed: no times");
  verb->callback([o] {
    const std::vector<app::RunPlan> plans =
        app::make_plans(o->recipe, o->overrides, {.seconds = o->quick ? 0.0 : 5.0, .sink = to_stderr});
    if (o->json) {
      OrderedJson json = OrderedJson::array();
      for (const app::RunPlan& plan : plans) json.push_back(app::plan_json(plan));
      to_stdout((plans.size() == 1 ? json[0] : json).dump(2) + "\n");
    } else if (plans.size() == 1) {
      print_run(plans[0]);
    } else {
      print_runs(plans);
    }
  });
}

}  // namespace molt::cli
