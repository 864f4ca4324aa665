// Edits that bring one learned tensor, trained directly or through a network that is dropped afterwards: an adapter
// holds the tensor, a checkpoint in mid-training the network.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "molt/peft/edit_method.h"
#include "molt/peft/reparameter.h"

namespace molt::peft {

class LearnedEdit : public TargetEdit {
 public:
  /// `suffix`: the tensor's name behind the site's.
  LearnedEdit(const nn::Target& target, std::string suffix, Dtype dtype)
      : TargetEdit(target), suffix_(std::move(suffix)), dtype_(dtype) {}

  std::vector<nn::Trainable> trainables() const override {
    if (network_) return network_->trainables(decays());
    return {{name_of(suffix_), value_, decays()}};
  }
  /// The tensor as it is computed with.
  Var learned() const {
    if (!network_) return value_;
    return by_columns_ ? network_->columns() : network_->rows();
  }
  void reset() override {
    if (network_) {
      network_->reset();
    } else if (value_.defined()) {
      Tensor value = value_.value();
      value.copy_from(first_);
    }
  }

  const std::string& suffix() const { return suffix_; }
  bool through_network() const { return network_ != nullptr; }
  /// Drops the network: from here on the tensor itself trains, from these values.
  void fold(const Tensor& value) {
    network_.reset();
    start(value.to(dtype_));
  }

 protected:
  virtual bool decays() const = 0;
  void start(const Tensor& value) {
    first_ = value.clone();
    value_ = Var::leaf(value);
  }
  void start_network(Reparameter::Options options) {
    network_ = std::make_unique<Reparameter>(std::move(options), dtype_);
  }
  bool by_columns_ = false;  ///< the network's rows are the tensor's columns

 private:
  std::string suffix_;
  Dtype dtype_;
  Var value_;
  Tensor first_;
  std::unique_ptr<Reparameter> network_;
};

/// The tensors of LearnedEdits as an adapter holds them: without networks.
std::vector<std::pair<std::string, Tensor>> folded_state(const std::vector<std::shared_ptr<TargetEdit>>& edits);
/// Before reading back: where `tensors` hold an edit's tensor itself, its network is dropped.
void fold_for(const std::vector<std::shared_ptr<TargetEdit>>& edits,
              const std::vector<std::pair<std::string, Tensor>>& tensors);

}  // namespace molt::peft
