// Edits: what a method does at a site. A set of edits is a value bound per call, so many adapters can stand beside
// each other on one base; no edit, no cost.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "molt/autograd/var.h"
#include "molt/nn/site.h"
#include "molt/tensor/segments.h"

namespace molt::nn {

class EditSet;
class Remembered;

/// What holds for one pass over a batch.
struct Context {
  const Segments* segments = nullptr;
  const EditSet* edits = nullptr;  ///< null: the plain base
  bool training = false;           ///< dropout on
  uint64_t seed = 0;               ///< with `step`, keys every random draw of the pass
  uint64_t step = 0;               ///< optimizer step, over all phases
  int64_t phase_step = 0;          ///< the same, from the start of the phase; methods that train by turns go by it
  int64_t phase_steps = 0;         ///< how many the phase has; 0 where nobody trains
  int64_t first_row = 0;           ///< number of this pass's first row within the step (accumulation)
  bool recompute = false;          ///< keep only each layer's input for the backward pass
  Remembered* keeps = nullptr;     ///< where products leave their results to a second run; null: nowhere
  Remembered* known = nullptr;     ///< in that run: where they are
  const std::vector<int32_t>* labels = nullptr;  ///< the batch's, where a method observes it; null otherwise
};

/// What a block has computed so far: an edit at one of its taps may read the rest. Undefined where it is yet to come.
struct Activations {
  Var x;     ///< (T, E): what goes into the scan, after convolution and SiLU
  Var z;     ///< (T, E): the gate, before its SiLU
  Var dt;    ///< (T, E): time steps before softplus
  Var B, C;  ///< (T, N)
};

/// What an edit may see at its site.
struct EditContext {
  const Context& run;
  const Site& site;
  const Var* input = nullptr;         ///< Linear, Conv: x as it came, before any change_input
  const Activations* seen = nullptr;  ///< Tap
};

/// A tensor that trains. `name` is its path; it keys checkpoints and adapters.
struct Trainable {
  std::string name;
  Var var;
  bool decays = true;   ///< weight decay applies (never to SSM parameters, norms, biases)
  double lr_scale = 1;  ///< times the recipe's learning rate
};

/// An addition of the form scale · (x Aᵀ) Bᵀ to columns [begin, begin + rows of B).
struct LowRankTerm {
  Var A, B;  ///< (R, in), (O, R)
  double scale = 1;
  int64_t begin = 0;
  bool own_input = false;  ///< x is Edit::low_rank_input(): a product cannot take the term along
};

/// One change at one site. Hooks are called in attach order; an edit overrides what it needs.
class Edit {
 public:
  virtual ~Edit() = default;
  /// Linear, Conv: x (T, in) before the product.
  virtual Var change_input(const EditContext&, const Var& x) const { return x; }
  /// Linear, Conv: y (T, out) plus something that depends on x. May write into y's memory: nobody else reads it.
  virtual Var add_to_output(const EditContext&, const Var& /*x*/, const Var& y) const { return y; }
  /// Linear: where add_to_output() adds just such a term for this run, and the edit does nothing else there, the term;
  /// a product may then take it along. An undefined A says no.
  virtual LowRankTerm low_rank_term(const EditContext&) const { return {}; }
  /// What that term multiplies: x, or what dropout leaves of it.
  virtual Var low_rank_input(const EditContext&, const Var& x) const { return x; }
  /// Embedding: y (T, D) plus something that depends on the ids; may write into y's memory.
  virtual Var add_to_rows(const EditContext&, const std::vector<int32_t>& /*ids*/, const Var& y) const { return y; }
  /// Linear, Conv, Embedding, Tap: y (T, out) after every addition; may write into its memory, but at a Tap of what a
  /// Linear gave (z, dt, B, C), which may be kept for a second run.
  virtual Var change_output(const EditContext&, const Var& y) const { return y; }
  /// Tap: whether change_output() also takes y and Activations::z in bf16 beside the f32 rest, as a block may keep
  /// them.
  virtual bool takes_narrow() const { return false; }
  /// Param (and Conv's weight): the value the part computes with.
  virtual Var change_param(const EditContext&, const Var& p) const { return p; }
  /// Param: further columns beside the value, after every change of it.
  virtual Var widen_param(const EditContext&, const Var& p) const { return p; }
  /// Linear, Conv: the bias the part computes with; undefined where there is none.
  virtual Var change_bias(const EditContext&, const Var& b) const { return b; }
  /// State: initial state for S segments, (S, …); undefined for zeros. Several add up.
  virtual Var initial_state(const EditContext&, int64_t /*segments*/) const { return {}; }
  /// Embedding, Prefix: rows (M, D) that stand before every segment; undefined for none. They are run once per pass,
  /// and every segment goes on from there: with blocks that only look back, that is the same.
  virtual Var rows_before(const EditContext&) const { return {}; }
  /// Folds the edit into the dense f32 weight of its site. Throws UsageError where the method cannot be merged.
  virtual void merge(const Site& site, const Tensor& weight) const;
  /// The same for the site's bias, where it has one.
  virtual void merge_bias(const Site&, const Tensor& /*bias*/) const {}
  /// Which hook merge() stands for: additions are folded in first, then changes of the input, then of the output.
  enum class Stage { kAdd, kOutput, kInput };
  virtual Stage merge_stage() const { return Stage::kAdd; }
  /// Whether the edit acts alike on every site that shares its weight (a tied head), so that merging it is right.
  virtual bool covers_shared_weight() const { return false; }
  virtual std::vector<Trainable> trainables() const = 0;
};

/// The edits of one adapter, by site.
class EditSet {
 public:
  void add(const Site& site, std::shared_ptr<Edit> edit);
  /// Edits at a site in attach order.
  const std::vector<std::shared_ptr<Edit>>& at(int site) const;
  bool any_in_layer(int layer) const;
  void clear();
  /// (site id, edit) in attach order.
  const std::vector<std::pair<int, std::shared_ptr<Edit>>>& all() const { return all_; }

 private:
  std::vector<std::vector<std::shared_ptr<Edit>>> by_site_;
  std::vector<std::pair<int, std::shared_ptr<Edit>>> all_;
  std::vector<int> layers_;
};

/// Folds every edit of the sites that hold `p` into its dense values, so that they act as the edited part does. Throws
/// UsageError where an edit cannot be merged.
void merge_edits(const EditSet& edits, const SiteTable& sites, const Parameter& p, const Tensor& values);

}  // namespace molt::nn
