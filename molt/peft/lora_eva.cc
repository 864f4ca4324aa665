// EVA (Paischer et al., 2024): A starts as the directions in which a target's inputs vary most on the training data.
#include <algorithm>
#include <map>

#include "molt/base/error.h"
#include "molt/peft/activation_pca.h"
#include "molt/peft/lora.h"
#include "molt/peft/lora_adapter.h"

namespace molt::peft {

int64_t Lora::observed_batches() const { return config_.init_lora_weights == "eva" ? config_.eva_batches : 0; }

// Slices of one site have the same input. Twice the rank and some more are kept from batch to batch, as PEFT does.
void Lora::observe(nn::EditSet& edits) {
  observers_.clear();
  std::map<const nn::Site*, int64_t> ranks;
  for (const auto& adapter : adapters_) {
    int64_t& rank = ranks[adapter->target().site];
    rank = std::max(rank, adapter->rank());
  }
  for (const auto& adapter : adapters_) {
    const nn::Site* site = adapter->target().site;
    if (observers_.count(site)) continue;
    observers_[site] = std::make_shared<InputObserver>(2 * ranks[site] + 8, dtype_);
    edits.add(*site, observers_[site]);
  }
}

// Where inputs vary in fewer directions than the rank, the other rows of A stay as they were drawn.
void Lora::observed() {
  for (const auto& adapter : adapters_) {
    const Tensor directions = observers_.at(adapter->target().site)->pca().directions(adapter->rank());
    if (directions.defined()) adapter->A().value().row_range(0, directions.rows()).copy_from(directions);
  }
  observers_.clear();
}

}  // namespace molt::peft
