// What can be handed to programs that know LoRA alone: edits of linears that do just what some low-rank pairs do,
// whatever they are made of and however they were trained.
#pragma once

#include <vector>

#include "molt/nn/edit.h"

namespace molt::peft {

/// An edit that is a sum of low-rank terms once training is over.
class Foldable {
 public:
  virtual ~Foldable() = default;
  /// y (T, O) += Σ scale · (x Aᵀ) Bᵀ at columns begin and on: what add_to_output() does without training, as values.
  /// May be none, where nothing is added. Of an embedding: rows, as LoRA has them.
  virtual std::vector<nn::LowRankTerm> folded() const = 0;
};

/// Adds the terms to a dense weight (O, I), in its precision.
void merge_terms(const std::vector<nn::LowRankTerm>& terms, const Tensor& weight);

/// A copy of a matrix whose rows are multiplied by a factor each.
Tensor scaled_rows(const Tensor& matrix, const std::vector<double>& factors);

}  // namespace molt::peft
