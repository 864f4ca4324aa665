// molt doctor
#include <memory>

#include "molt/app/doctor.h"
#include "molt/cli/table.h"
#include "molt/cli/verbs.h"

namespace molt::cli {

void add_doctor(CLI::App& app) {
  auto o = std::make_shared<app::DoctorOptions>();
  auto quick = std::make_shared<bool>(false);
  CLI::App* verb = app.add_subcommand("doctor", "Show what this machine offers, and what stands in the way");
  verb->add_option("--output-dir", o->output_dir, "where runs would be written")->capture_default_str();
  verb->add_flag("--quick", *quick, "measure nothing");
  verb->callback([o, quick] {
    if (*quick) o->seconds = 0;
    const std::vector<app::Finding> found = app::examine_machine(*o);
    Table table({"", "", ""});
    bool healthy = true;
    for (const app::Finding& f : found) {
      const char* word = f.health == app::Health::kOk ? "ok" : f.health == app::Health::kNote ? "note" : "problem";
      healthy = healthy && f.health != app::Health::kProblem;
      table.row({word, f.name, f.text});
      if (!f.advice.empty()) table.row({"", "", "-> " + f.advice});
    }
    table.print();
    if (!healthy) throw CLI::RuntimeError(1);
  });
}

}  // namespace molt::cli
