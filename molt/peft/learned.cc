#include "molt/peft/learned.h"

#include "molt/autograd/tape.h"
#include "molt/io/adapter.h"

namespace molt::peft {
namespace {

std::string key_of(const LearnedEdit& edit) { return io::peft_key(edit.target().label(), edit.suffix()); }

}  // namespace

std::vector<std::pair<std::string, Tensor>> folded_state(const std::vector<std::shared_ptr<TargetEdit>>& edits) {
  const NoGrad no_grad;
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const auto& edit : edits) {
    const auto& learned = static_cast<const LearnedEdit&>(*edit);
    tensors.emplace_back(key_of(learned), learned.learned().value());
  }
  return tensors;
}

void fold_for(const std::vector<std::shared_ptr<TargetEdit>>& edits,
              const std::vector<std::pair<std::string, Tensor>>& tensors) {
  const NoGrad no_grad;
  for (const auto& edit : edits) {
    auto& learned = static_cast<LearnedEdit&>(*edit);
    if (!learned.through_network()) continue;
    for (const auto& [name, tensor] : tensors) {
      if (name == key_of(learned)) learned.fold(stored_tensor(tensors, name, learned.learned().value().shape()));
    }
  }
}

}  // namespace molt::peft
