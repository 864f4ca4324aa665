// The common shape of a method: one edit at each of its targets, each edit with tensors of its own, which are its
// state.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "molt/peft/configured.h"
#include "molt/peft/targets.h"

namespace molt::peft {

/// An edit at one target that knows what of it goes to disk.
class TargetEdit : public nn::Edit {
 public:
  explicit TargetEdit(const nn::Target& target) : target_(target) {}
  const nn::Target& target() const { return target_; }
  /// What its tensors are filed under, in a peer's words.
  virtual std::string module() const { return target_.label(); }
  /// (suffix, tensor) as PEFT spells them, in memory that training changes: reading back copies into it. The default:
  /// the trainables, by what their names have behind the target's.
  virtual std::vector<std::pair<std::string, Tensor>> tensors() const;
  /// After the tensors changed, by the optimizer or by reading back.
  virtual void refresh() {}
  /// A new phase of training begins: its tensors() have their initial values again, other state is to have them too.
  virtual void reset() {}

 protected:
  std::string name_of(const std::string& tensor) const { return target_.label() + "." + tensor; }
  nn::Target target_;
};

/// The tensors of several edits by PEFT's keys; a slice keeps its name in the key ("x_proj:B.ia3_l").
std::vector<std::pair<std::string, Tensor>> edits_state(const std::vector<std::shared_ptr<TargetEdit>>& edits);
/// The reverse. Throws UsageError for a tensor that is missing or of another shape.
void load_edits(const std::vector<std::shared_ptr<TargetEdit>>& edits,
                const std::vector<std::pair<std::string, Tensor>>& tensors);
/// Gives tensors that have a value among these that value; the others stay.
void restore_edits(const std::vector<std::shared_ptr<TargetEdit>>& edits,
                   const std::vector<std::pair<std::string, Tensor>>& tensors);
/// The tensor of a name, of this shape. Throws UsageError otherwise.
Tensor stored_tensor(const std::vector<std::pair<std::string, Tensor>>& tensors, const std::string& key,
                     const Shape& shape);
/// Target modules as PEFT may write them: paths of whole sites. Throws UsageError for a slice: PEFT knows none.
Json whole_modules(const std::vector<std::shared_ptr<TargetEdit>>& edits, const char* method);

/// Derived classes fill edits_ in attach() through place().
template <class C>
class EditMethod : public Configured<C> {
 public:
  void bind(nn::EditSet& edits) const override {
    for (const auto& edit : edits_) edits.add(*edit->target().site, edit);
  }
  void after_step() override {
    for (const auto& edit : edits_) edit->refresh();
  }
  void begin_phase(int phase) override {
    if (phase == 0) return;
    restore_edits(edits_, start_);
    for (const auto& edit : edits_) edit->reset();
  }
  std::vector<std::pair<std::string, Tensor>> state() const override { return edits_state(edits_); }
  void load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) override { load_edits(edits_, tensors); }
  int64_t trainable_count() const override {
    int64_t count = 0;
    for (const auto& edit : edits_) {
      for (const nn::Trainable& t : edit->trainables()) count += t.var.value().numel();
    }
    return count;
  }
  std::string coverage() const override { return coverage_; }

 protected:
  EditMethod(C config, uint64_t seed, Dtype dtype) : Configured<C>(std::move(config)), seed_(seed), dtype_(dtype) {}
  /// Makes an edit at each of the targets.
  template <class Make>
  void place(const nn::SiteTable& sites, const std::vector<std::string>& targets,
             const std::vector<nn::SiteKind>& kinds, const Make& make) {
    const std::vector<nn::Target> found = resolve_targets(sites, targets, kinds);
    for (const nn::Target& target : found) edits_.push_back(make(target));
    start_ = edits_state(edits_);
    for (auto& [name, tensor] : start_) tensor = tensor.clone();
    coverage_ = peft::coverage(sites, found);
  }

  uint64_t seed_;
  Dtype dtype_;
  std::string coverage_;
  std::vector<std::shared_ptr<TargetEdit>> edits_;

 private:
  std::vector<std::pair<std::string, Tensor>> start_;  // the edits' tensors as they began
};

}  // namespace molt::peft
