// A base model and the adapter it is looked at with.
#pragma once

#include "molt/nn/language_model.h"

namespace molt::eval {

/// Both must outlive the call they are passed to.
struct ModelView {
  const nn::LanguageModel& model;
  const nn::EditSet* edits = nullptr;  ///< null: the plain base

  int64_t vocabulary() const { return model.plan().vocabulary; }
  /// The context of one pass for evaluation: no dropout.
  nn::Context context(const Segments& segments) const {
    nn::Context c;
    c.segments = &segments;
    c.edits = edits;
    return c;
  }
};

}  // namespace molt::eval
