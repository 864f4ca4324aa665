#include "molt/cli/comparison_table.h"

#include <algorithm>

#include "molt/base/format.h"
#include "molt/cli/table.h"

namespace molt::cli {

void print_comparison(const train::ComparisonReport& report) {
  std::vector<std::string> head = {"method", ">trainable", ">share"}, scores;
  for (const train::MethodResult& m : report.methods) {
    for (const auto& [name, value] : m.scores) {
      if (std::find(scores.begin(), scores.end(), name) == scores.end()) scores.push_back(name);
    }
  }
  for (const std::string& name : scores) head.push_back(">" + name);
  for (const char* name : {">loss", ">tokens/s", ">time", ">memory"}) head.push_back(name);
  Table table(head);
  for (const train::MethodResult& m : report.methods) {
    if (!m.failure.empty()) {
      table.row({m.name, "failed"});
      continue;
    }
    std::vector<std::string> row = {m.name, m.trainable_parameters ? format_integer(m.trainable_parameters) : "-",
                                    format_percent(static_cast<double>(m.trainable_parameters) /
                                                   static_cast<double>(std::max<int64_t>(1, m.total_parameters)))};
    for (const std::string& name : scores) {
      const auto at = std::find_if(m.scores.begin(), m.scores.end(), [&](const auto& s) { return s.first == name; });
      row.push_back(at == m.scores.end() ? "-" : format_fixed(at->second, 3));
    }
    row.push_back(m.eval_loss ? format_fixed(*m.eval_loss, 3) : "-");
    row.push_back(m.tokens_per_second > 0 ? format_count(m.tokens_per_second) : "-");
    row.push_back(m.seconds > 0 ? format_duration(m.seconds) : "-");
    row.push_back(format_bytes(m.peak_memory_bytes));
    table.row(std::move(row));
  }
  table.print();
}

}  // namespace molt::cli
