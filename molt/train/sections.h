// Sections that the page of a run and the page of a comparison share.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "molt/train/report.h"

namespace molt::train {

/// One summary card. `value` and `more` are text; `share` in [0, 1] draws a meter.
struct Card {
  std::string name, value, more;
  std::optional<double> share;
  bool main = false;
};
std::string cards_section(const std::vector<Card>& cards);

/// The mark, the title and a row of chips; `status` comes first if there is one.
std::string header_section(const std::string& title, const std::string& status, bool ok,
                           const std::vector<std::string>& chips);

/// The recipe (folded) and the environment; empty where both are.
std::string background_section(const std::string& recipe, const Facts& environment);

std::string footer_section(const std::string& created);

/// "1,228,800 of 130,563,072" and the like.
std::string of_total(int64_t part, int64_t total);

/// The head of a column of numbers; a long name may break behind its underscores.
std::string column_head(const std::string& name);

/// A metric's value by itself.
std::string metric_text(double value);

/// Tokens per second: "6,194".
std::string rate_text(double rate);

/// The values of one metric as a table's column: as many decimals for all as give its largest value four digits.
/// Empty text where there is no value.
std::vector<std::string> metric_column(const std::vector<std::optional<double>>& column);

/// The index of the best finite value in a column; nothing where fewer than two are finite or all are equal.
std::optional<size_t> best_in_column(const std::vector<std::optional<double>>& column, bool lower);

}  // namespace molt::train
