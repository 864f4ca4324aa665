#include "molt/app/search.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include "molt/app/made_with.h"
#include "molt/app/methods.h"
#include "molt/app/outline.h"
#include "molt/base/error.h"
#include "molt/base/file.h"
#include "molt/base/near.h"
#include "molt/base/system.h"

namespace molt::app {
namespace {

namespace fs = std::filesystem;

/// A key of a recipe, or of a method behind its name ("lora.r"), and the values to try.
struct Knob {
  std::string key;
  std::vector<std::string> values;
};

/// A line of `search.methods`.
struct Candidate {
  std::string name;
  OrderedJson methods = OrderedJson::array();  ///< [{name: options as resolved}]
  std::vector<Knob> knobs;
};

constexpr int kRecipe = -1;  // in place of a candidate: the recipe's own keys

/// What one trial trains.
struct Choice {
  std::set<int> members;                                   ///< candidates
  std::map<std::pair<int, std::string>, std::string> set;  ///< (candidate, key) -> value
};

struct Stopped {};

void only_keys(const YamlNode& node, const std::vector<std::string>& known) {
  for (const std::string& key : node.keys()) {
    if (std::find(known.begin(), known.end(), key) == known.end())
      usage_error(node.child(key).where(), ": unknown key; did you mean ", nearest(key, known, 3), "?");
  }
}

/// A value as it may stand in an override.
std::string value_text(const YamlNode& value) {
  if (value.is_scalar()) return value.scalar();
  if (!value.is_list()) usage_error(value.where(), ": expected a value, or a list of them");
  std::string text;
  for (const YamlNode& item : value.items()) text += (text.empty() ? "" : ", ") + Json(item.scalar()).dump();
  return "[" + text + "]";
}

/// Throws UsageError for a setting that the search itself has in hand: what is trained, where trials are written, and
/// what they are judged by, without which their scores could not be compared.
void check_free(const std::string& key, const YamlNode& node) {
  for (const char* taken : {"method", "output_dir", "compare", "evaluation", "data.test", "data.validation"}) {
    if (key.rfind(taken, 0) == 0 || key == "data")
      usage_error(node.where(), ": '", key, "' is the same for every trial; it cannot be tried");
  }
}

std::vector<Knob> read_knobs(const YamlNode& node) {
  std::vector<Knob> knobs;
  if (!node.has("try")) return knobs;
  const YamlNode all = node.child("try");
  if (!all.is_map()) usage_error(all.where(), ": expected keys, each with a list of values to try");
  for (const std::string& key : all.keys()) {
    const YamlNode values = all.child(key);
    if (!values.is_list() || values.items().empty()) usage_error(values.where(), ": expected a list of values to try");
    Knob knob{key, {}};
    for (const YamlNode& value : values.items()) knob.values.push_back(value_text(value));
    knobs.push_back(std::move(knob));
  }
  return knobs;
}

class Search {
 public:
  Search(const std::string& path, const std::vector<std::string>& overrides, const TrainRunOptions& options)
      : options_(options), root_(YamlNode::read_file(path)) {
    for (const std::string& assignment : overrides) root_.apply(assignment);
    if (!root_.has("search") || !root_.child("search").is_map() || !root_.child("search").has("methods"))
      usage_error(path, ": search is missing: a map with methods, a list of candidates with name and method");
    const YamlNode search = root_.child("search");
    only_keys(search, {"methods", "try"});
    output_dir_ =
        root_.has("output_dir") ? root_.child("output_dir").scalar() : "runs/" + fs::path(path).stem().string();
    if (fs::exists(output_dir_) && !fs::is_directory(output_dir_))
      usage_error("output_dir: ", output_dir_, " is a file; expected a directory, or one to be made");
    for (const char* key : {"search", "compare", "method", "methods"}) root_.erase(key);
    if (!search.child("methods").is_list()) usage_error(search.child("methods").where(), ": expected a list");
    for (const YamlNode& item : search.child("methods").items()) candidates_.push_back(read(item));
    if (candidates_.empty()) usage_error(search.child("methods").where(), ": names no candidate");
    knobs_ = read_knobs(search);
    for (const Knob& knob : knobs_) check_free(knob.key, search.child("try").child(knob.key));
    check();
    const Recipe recipe = Recipe::from(recipe_of({{0}, {}}, output_dir_, true), "search");
    if (recipe.data.validation.empty() && recipe.data.validation_split == 0)
      usage_error(path, ": data.validation is missing: a search is judged on it, never on the test data");
    metric_ = recipe.evaluation.metric;
    result_.report.title = fs::path(path).stem().string();
    result_.report.recipe = YamlNode::read_file(path).dump();
  }

  SearchResult run() {
    try {
      choose_methods();
      choose_settings();
    } catch (const Stopped&) {
      return result_;
    }
    write();
    return result_;
  }

 private:
  Candidate read(const YamlNode& item) {
    const char* const trained = item.is_map() && item.has("methods") ? "methods" : "method";
    if (!item.is_map() || !item.has("name") || !item.has(trained))
      usage_error(item.where(), ": expected a candidate with name and method");
    only_keys(item, {"name", trained, "try"});
    Candidate c;
    c.name = item.child("name").scalar();
    for (const Candidate& other : candidates_) {
      if (other.name == c.name) usage_error(item.where(), ": '", c.name, "' is named twice");
    }
    for (const MethodEntry& entry : read_methods(item.child(trained)))
      c.methods.push_back({{entry.name, resolved_options(entry)}});
    c.knobs = read_knobs(item);
    for (const Knob& knob : c.knobs) {
      const bool known = std::any_of(c.methods.begin(), c.methods.end(), [&](const OrderedJson& m) {
        return knob.key.rfind(m.begin().key() + ".", 0) == 0;
      });
      if (!known) usage_error(item.where(), ": try: '", knob.key, "' should begin with a method of it, as in lora.r");
    }
    return c;
  }

  /// A recipe for a choice. `trial`: without test data, which the search must not see.
  YamlNode recipe_of(const Choice& choice, const std::string& directory, bool trial) const {
    YamlNode recipe = root_.copy();
    OrderedJson methods = OrderedJson::array();
    std::map<int, size_t> first;
    for (const int c : choice.members) {
      first[c] = methods.size();
      for (const OrderedJson& m : candidates_[static_cast<size_t>(c)].methods) methods.push_back(m);
    }
    recipe.set("method", YamlNode::parse(methods.dump(), "search"));
    recipe.set("output_dir", YamlNode::parse(Json(directory).dump(), "search"));
    if (trial && recipe.has("data") && recipe.child("data").is_map()) {
      YamlNode data = recipe.child("data").copy();
      data.erase("test");
      recipe.set("data", data);
    }
    for (const auto& [setting, value] : choice.set) {
      const auto& [c, key] = setting;
      if (c == kRecipe) {
        recipe.apply(key + "=" + value);
      } else if (choice.members.count(c)) {
        const OrderedJson& own = candidates_[static_cast<size_t>(c)].methods;
        size_t at = 0;
        while (at + 1 < own.size() && key.rfind(own[at].begin().key() + ".", 0) != 0) ++at;
        recipe.apply(str("method.", first.at(c) + at, ".", key, "=", value));
      }
    }
    return recipe;
  }

  /// Whether every candidate, and every setting, can be read: a search must not end after hours for a slip.
  void check() const {
    for (int c = kRecipe; c < static_cast<int>(candidates_.size()); ++c) {
      const int member = std::max(c, 0);
      const auto see = [&](const Choice& choice) {
        const Recipe recipe = Recipe::from(recipe_of(choice, output_dir_, true), "search");
        if (c != kRecipe) check_methods(recipe, describe(choice));
      };
      see({{member}, {}});
      for (const Knob& knob : knobs_of(c)) {
        for (const std::string& value : knob.values) see({{member}, {{{c, knob.key}, value}}});
      }
    }
  }

  const std::vector<Knob>& knobs_of(int c) const {
    return c == kRecipe ? knobs_ : candidates_[static_cast<size_t>(c)].knobs;
  }

  std::string describe(const Choice& choice) const {
    std::string text, set;
    for (const int c : choice.members) text += str(text.empty() ? "" : " + ", candidates_[static_cast<size_t>(c)].name);
    for (const auto& [setting, value] : choice.set) {
      const auto& [c, key] = setting;
      if (c != kRecipe && !choice.members.count(c)) continue;
      set += str(", ", c == kRecipe ? "" : candidates_[static_cast<size_t>(c)].name + " ", key, "=", value);
    }
    return text + set;
  }

  /// The score of a choice, or nothing where its methods cannot be combined (`alone`: then that is an error) or it
  /// left the finite numbers.
  std::optional<double> trial(const Choice& choice, bool alone = false) {
    const std::string name = describe(choice);
    const auto known = scores_.find(name);
    if (known != scores_.end()) return known->second;
    const size_t number = scores_.size() + 1;
    Variant v;
    v.name = name;
    v.directory = str(output_dir_, "/trial-", number < 10 ? "0" : "", number);
    std::optional<double> score;
    try {
      v.recipe = Recipe::from(recipe_of(choice, v.directory, true), "search");
      const auto done = run_variant(v, options_);
      if (!done) throw Stopped();
      result_.report.methods.push_back(*done);
      score = score_of(*done);
    } catch (const UsageError& error) {
      if (alone || holds_another(v) || has(error, "cannot be resumed")) throw;
      fail(name, error.what());
    } catch (const SystemError& error) {
      if (!has(error, "is not finite")) throw;
      fail(name, error.what());
    }
    if (score) same_.check(v);
    scores_[name] = score;
    return score;
  }

  void fail(const std::string& name, const std::string& why) {
    if (options_.sink) options_.sink(str(name, ": failed: ", why, "\n"));
    train::MethodResult failed;
    failed.name = name;
    failed.failure = why;
    result_.report.methods.push_back(failed);
  }

  static bool has(const std::exception& error, const char* words) {
    return std::string(error.what()).find(words) != std::string::npos;
  }

  /// Whether a trial's directory is there from another search.
  static bool holds_another(const Variant& v) {
    const std::string recipe = v.directory + "/recipe.yaml";
    return fs::exists(recipe) && !same_result(read_file(recipe), v.recipe.resolved().dump());
  }

  std::optional<double> score_of(const train::MethodResult& m) const {
    std::optional<double> score;
    if (metric_ == "loss") score = m.eval_loss;
    for (const auto& [name, value] : m.scores) {
      if (name == metric_) score = value;
    }
    return score && std::isfinite(*score) ? score : std::nullopt;
  }

  /// Makes a trial; where it beats the best so far it becomes the best. Equal is no better: what was found with less
  /// stays.
  bool improves(const Choice& choice, bool alone = false) {
    const std::optional<double> score = trial(choice, alone);
    if (!score) return false;
    const bool better =
        !best_score_ || (train::lower_is_better(metric_) ? *score < *best_score_ : *score > *best_score_);
    if (!better) return false;
    best_score_ = score;
    best_ = choice;
    return true;
  }

  /// Step 1: each candidate alone; then to the best, again and again, the one that helps most.
  void choose_methods() {
    bool grew = true;
    while (grew && best_.members.size() < candidates_.size()) {
      grew = false;
      const Choice from = best_;
      for (int c = 0; c < static_cast<int>(candidates_.size()); ++c) {
        if (from.members.count(c)) continue;
        Choice with = from;
        with.members.insert(c);
        grew = improves(with, from.members.empty()) || grew;
      }
    }
    if (best_.members.empty()) usage_error("search: no candidate has a finite ", metric_);
  }

  /// Step 2: without each of the methods; then value after value of each of its settings, one setting at a time.
  void choose_settings() {
    const Choice from = best_;
    for (const int c : from.members) {
      if (from.members.size() < 2) break;
      Choice without = from;
      without.members.erase(c);
      improves(without);
    }
    std::vector<int> owners(best_.members.begin(), best_.members.end());
    owners.push_back(kRecipe);
    for (const int c : owners) {
      for (const Knob& knob : knobs_of(c)) {
        for (const std::string& value : knob.values) {
          Choice with = best_;
          with.set[{c, knob.key}] = value;
          improves(with);
        }
      }
    }
  }

  void write() {
    result_.finished = true;
    result_.winner = describe(best_);
    result_.recipe = output_dir_ + "/best.yaml";
    write_file_atomic(result_.recipe, str("# Found by molt search: ", result_.winner, "; validation ", metric_, " ",
                                          *best_score_, " after ", scores_.size(), " trials.\n",
                                          recipe_of(best_, output_dir_ + "/best", false).dump()));
    train::ComparisonReport& report = result_.report;
    const Recipe recipe = Recipe::from(recipe_of(best_, output_dir_, true), "search");
    report.created = iso_time_now();
    report.model = recipe.model;
    report.task = recipe.data.train.empty() ? "" : recipe.data.train[0];
    report.score_name = metric_ == "loss" ? "" : metric_;
    report.environment = environment(recipe.seed);
    result_.page = output_dir_ + "/report.html";
    write_file_atomic(result_.page, train::report_page(report));
  }

  TrainRunOptions options_;
  YamlNode root_;
  std::string output_dir_, metric_;
  std::vector<Candidate> candidates_;
  std::vector<Knob> knobs_;  // of the recipe
  std::map<std::string, std::optional<double>> scores_;
  Choice best_;
  std::optional<double> best_score_;
  SearchResult result_;
  SameMaterial same_;
};

}  // namespace

SearchResult run_search(const std::string& recipe, const std::vector<std::string>& overrides,
                        const TrainRunOptions& options) {
  return Search(recipe, overrides, options).run();
}

}  // namespace molt::app
