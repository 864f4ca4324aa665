// The interface of a fine-tuning method. Training runs it and knows nothing else of the method; a method knows sites,
// never a model.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "molt/base/json.h"
#include "molt/nn/edit.h"
#include "molt/nn/parameter.h"

namespace molt::nn {

/// A stretch of training with its own trainables, optimizer and schedule (SDT's warm-up, then its sparse phase).
struct Phase {
  std::string name;
  int64_t steps = 0;         ///< 0: as many as the recipe says
  bool restart_data = true;  ///< begin with the data's first batch; else go on where the phase before ended
};

/// How the optimizer treats what a method trains; where unset, as it treats everything.
struct Rates {
  std::optional<double> learning_rate = {};  ///< peak, instead of the recipe's
  std::optional<double> weight_decay = {};

  template <class V>
  void visit(V& v) {
    v.field("learning_rate", learning_rate, "peak learning rate of what this method trains (default: the recipe's)");
    v.field("weight_decay", weight_decay, "weight decay of what this method trains (default: the recipe's)");
  }
};

/// The optimizer step that is about to be made.
struct StepInfo {
  int64_t step = 0, steps = 0;  ///< from 0, and how many the phase has
  double grad_scale = 1;        ///< gradients are sums over labelled tokens; times this they are those of the mean loss
  bool last_phase = true;       ///< false: another phase begins anew; plans that stretch over the training can wait
};

class Method {
 public:
  virtual ~Method() = default;
  /// Set by whoever builds the method; training reads it.
  Rates rates = {};

  /// "lora", "sdt", …: the recipe's word.
  virtual std::string name() const = 0;
  /// Before any weight is loaded: which base parameters train whole. Most methods: none.
  virtual void declare(const SiteTable&, ParameterTable&) {}
  /// Once, when weights are there: finds its sites. Throws UsageError for a target that matches nothing.
  virtual void attach(const SiteTable& sites) = 0;
  /// What a recipe says must have an effect: throws UsageError for an option that reaches no target. Adapters that
  /// others wrote are not asked.
  virtual void require_effect() const {}
  /// Batches of training data that are run through the model as it is before each phase; 0: none. Where there are some,
  /// observe() adds edits that look at what passes (they change nothing; Context::labels is set), and observed() makes
  /// initial values of what they saw.
  virtual int64_t observed_batches() const { return 0; }
  virtual void observe(EditSet&) {}
  virtual void observed() {}
  /// What is planned over the training must fit into its last phase: throws UsageError where `steps` are too few.
  virtual void check_steps(int64_t /*steps*/) const {}
  /// The edits of the current phase, added in attach order.
  virtual void bind(EditSet& edits) const = 0;
  /// Base parameters this method trains, once weights are there. Edits' trainables come from the edits.
  virtual std::vector<Trainable> base_trainables() const { return {}; }
  /// Gradients of a step are there and may be read, added to, or cleared (a trainable without one stays as it is).
  virtual void before_step(const StepInfo&) {}
  /// After the optimizer changed the trainables, or somebody else did.
  virtual void after_step() {}
  virtual std::vector<Phase> phases() const { return {{"train", 0}}; }
  /// Called before each phase; the edits are bound anew afterwards. Phase 0 starts right after attach(). Before a later
  /// one, training has given base_trainables() the values back that they had before the first.
  virtual void begin_phase(int /*phase*/) {}
  /// What an adapter must hold beyond its config: tensors by name, to be read back by load().
  virtual std::vector<std::pair<std::string, Tensor>> state() const = 0;
  /// What an adapter keeps of it once training is over: less where something only made training easier. load_state()
  /// reads both.
  virtual std::vector<std::pair<std::string, Tensor>> adapter_state() const { return state(); }
  virtual void load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) = 0;
  /// The method's options, in the words of its recipe entry; enough to build it again.
  virtual Json config_json() const = 0;
  /// adapter_config.json as PEFT reads it, for tensors named as state() names them; null where PEFT has no such method.
  /// Throws UsageError where PEFT has the method but cannot say what this one is.
  virtual Json peft_config() const { return nullptr; }
  /// What the start-up check prints: which sites, how many layers.
  virtual std::string coverage() const = 0;
  /// How many numbers train in the last phase, by the method's formula.
  virtual int64_t trainable_count() const = 0;
};

}  // namespace molt::nn
