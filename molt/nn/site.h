// Sites: the places of a model where a method may act. Every part registers one under its path, in the checkpoint's
// words ("backbone.layers.0.mixer.x_proj"), so a target string is all a method needs to know of a model.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "molt/tensor/tensor.h"

namespace molt::nn {

struct Parameter;

enum class SiteKind { kLinear, kConv, kEmbedding, kParam, kTap, kState, kPrefix };

/// "linear", "conv", …
const char* site_kind_name(SiteKind kind);

/// A named run of a fused projection's output rows: x_proj holds dt | B | C.
struct Slice {
  std::string name;
  int64_t begin = 0, size = 0;
};

struct Site {
  int id = 0;
  std::string path;
  SiteKind kind = SiteKind::kParam;
  /// Linear (out, in), Conv (E, K), Embedding (V, D), Param: its own; Tap, Prefix (width); State: per segment.
  Shape shape;
  std::vector<Slice> slices;
  int layer = -1;                        ///< -1: outside the layers
  const Parameter* parameter = nullptr;  ///< what the part holds; null for taps, states, prefixes
  const Parameter* bias = nullptr;       ///< a linear's or convolution's bias, if it has one
  bool ssm = false;                      ///< belongs to the state-space part (the paper's "SSM module")
  std::vector<std::string> presets;      ///< further presets that its block counts it to: mixer, in_out, …
};

/// All sites of a model, in the order of construction; addresses are stable.
class SiteTable {
 public:
  const Site& add(Site site);
  const std::deque<Site>& all() const { return sites_; }
  /// The site with this exact path, or null.
  const Site* find(const std::string& path) const;

 private:
  std::deque<Site> sites_;
};

/// A site, or one slice of it (null: the whole).
struct Target {
  const Site* site = nullptr;
  const Slice* slice = nullptr;
  /// "backbone.layers.0.mixer.x_proj:B"
  std::string label() const;
  /// Rows of the output it covers.
  int64_t begin() const { return slice ? slice->begin : 0; }
  int64_t size() const { return slice ? slice->size : site->shape[0]; }
};

/// The presets there are: names for the linears of a part, the same in every model that has such a part.
struct Preset {
  const char* name;
  const char* meaning;
};
const std::vector<Preset>& target_presets();
/// Those of them that mean something in this model.
std::vector<Preset> presets_of(const SiteTable& sites);

/// Finds the sites a target string means, as PEFT reads it: a path, the end of one after a dot, or a regular expression
/// that matches a whole path; ":NAME" picks a slice; the name of a preset ("all-linear", "mixer", …) means its linears.
/// Only sites of `kinds` count. Throws UsageError naming near candidates where nothing matches.
std::vector<Target> match_target(const SiteTable& sites, const std::string& target, const std::vector<SiteKind>& kinds);

}  // namespace molt::nn
