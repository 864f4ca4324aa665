#include "molt/train/sections.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "molt/base/format.h"
#include "molt/base/str.h"
#include "molt/train/html.h"
#include "molt/train/page_style.h"

namespace molt::train {

std::string cards_section(const std::vector<Card>& cards) {
  // Rows without a hole: by fours, with a wider first card where one is missing; five in a row; six as two by three.
  const size_t n = cards.size();
  const char* layout = n % 4 == 0 ? "c4" : n % 4 == 3 ? "c4 wide1" : n % 5 == 0 ? "c5" : n % 3 == 0 ? "c3" : "c2";
  if (cards.empty()) return "";
  std::string out = str("<section class=\"cards ", layout, "\">\n");
  for (const Card& card : cards) {
    out += str("<div class=\"card", card.main ? " main" : "", "\"><div class=\"name\">", escape_html(card.name),
               "</div><div class=\"value", card.value.size() > 14 ? " long" : "", "\">", escape_html(card.value),
               "</div>");
    if (!card.more.empty()) out += str("<div class=\"more\">", escape_html(card.more), "</div>");
    if (card.share)
      out += str("<div class=\"meter\"><i style=\"width:", format_fixed(*card.share * 100, 2), "%\"></i></div>");
    out += "</div>\n";
  }
  return out + "</section>\n";
}

std::string header_section(const std::string& title, const std::string& status, bool ok,
                           const std::vector<std::string>& chips) {
  std::string out =
      str("<header class=\"top\">", kPageMark, "<div><h1>", escape_html(title), "</h1><div class=\"chips\">");
  if (!status.empty()) out += str("<span class=\"chip ", ok ? "ok" : "bad", "\">", escape_html(status), "</span>");
  for (const std::string& chip : chips) {
    if (!chip.empty()) out += str("<span class=\"chip\">", escape_html(chip), "</span>");
  }
  return out + "</div></div></header>\n";
}

std::string background_section(const std::string& recipe, const Facts& environment) {
  if (recipe.empty() && environment.empty()) return "";
  std::string out = "<h2>How it was made</h2>\n<div class=\"two\">";
  if (!environment.empty()) {
    out += "<details class=\"panel\" open><summary>Environment</summary><dl>";
    for (const auto& [name, value] : environment)
      out += str("<dt>", escape_html(name), "</dt><dd>", escape_html(value), "</dd>");
    out += "</dl></details>";
  }
  if (!recipe.empty())
    out += str("<details class=\"panel\"><summary>Recipe <span>as resolved</span></summary>", yaml_block(recipe),
               "</details>");
  return out + "</div>\n";
}

std::string footer_section(const std::string& created) {
  return str("<footer>Written by molt ", MOLT_VERSION, created.empty() ? "" : " on ", escape_html(created),
             ". This page is complete in itself.</footer>\n");
}

std::string of_total(int64_t part, int64_t total) {
  return total > 0 ? str(format_integer(part), " of ", format_integer(total)) : format_integer(part);
}

std::string column_head(const std::string& name) {
  std::string text;
  for (const char c : escape_html(name)) text += c == '_' ? std::string("_<wbr/>") : std::string(1, c);
  return str("<th class=\"num\">", text, "</th>");
}

std::string metric_text(double value) { return format_significant(value, 4); }

std::string rate_text(double rate) {
  return rate < 99.5 ? format_significant(rate, 3) : format_integer(std::llround(std::min(rate, 1e15)));
}

std::vector<std::string> metric_column(const std::vector<std::optional<double>>& column) {
  double largest = 0, smallest = std::numeric_limits<double>::infinity();
  for (const auto& value : column) {
    if (!value || !std::isfinite(*value)) continue;
    largest = std::max(largest, std::fabs(*value));
    if (*value != 0) smallest = std::min(smallest, std::fabs(*value));
  }
  // Where one number of decimals would round some values away or write endless digits, each is written by itself.
  const bool alike = largest < 1e6 && smallest >= 1e-3 && largest > 0;
  const int decimals = alike ? std::clamp(3 - static_cast<int>(std::floor(std::log10(largest))), 1, 4) : 0;
  std::vector<std::string> out;
  for (const auto& value : column)
    out.push_back(!value ? "" : alike ? format_fixed(*value, decimals) : metric_text(*value));
  return out;
}

std::optional<size_t> best_in_column(const std::vector<std::optional<double>>& column, bool lower) {
  std::optional<size_t> best;
  size_t finite = 0;
  bool differ = false;
  for (size_t i = 0; i < column.size(); ++i) {
    if (!column[i] || !std::isfinite(*column[i])) continue;
    ++finite;
    if (best && *column[i] != *column[*best]) differ = true;
    if (!best || (lower ? *column[i] < *column[*best] : *column[i] > *column[*best])) best = i;
  }
  return finite > 1 && differ ? best : std::nullopt;
}

}  // namespace molt::train
