// Several adapters in one pass: segments of a batch that use different sets of edits share every product with the base;
// each set acts on its own rows only. For passes without gradients.
#pragma once

#include <string>
#include <vector>

#include "molt/nn/edit.h"

namespace molt::nn {

/// Consecutive segments of a pass that use one set; null: the plain base.
struct EditRun {
  const EditSet* edits = nullptr;
  int64_t segments = 0;
};

/// Where a set does something to a pass as a whole, so that it cannot act on some rows only: "A_log: changes the
/// parameter", "embeddings: rows before every segment". Empty where it can be mixed.
std::string why_not_by_rows(const EditSet& edits, const SiteTable& sites);

/// One set that acts on each run's rows as that run's own set does. Runs cover the segments in order; all their sets
/// must act by rows, and outlive the result.
EditSet mixed_edits(const SiteTable& sites, const Segments& segments, const std::vector<EditRun>& runs);

}  // namespace molt::nn
