#include "molt/app/flops.h"

#include <algorithm>

namespace molt::app {
namespace {

// The scan, per channel and state: forward exp(Δ A) (2), Δ x · B (1), a h + b (2), C h (2). Backward runs forward again
// without C (5), and for each token and state: dC, dh (4), dB, dx through Δ x B (4), da and what it gives to Δ (4).
constexpr double kScanForward = 7, kScanBackward = 17;
// Per channel: softplus, D x, silu and the gate; twice as much back.
constexpr double kChannelForward = 10, kChannelBackward = 20;

double trained_numbers(const nn::EditSet& edits, const nn::Site& site) {
  double count = 0;
  for (const auto& edit : edits.at(site.id)) {
    for (const nn::Trainable& t : edit->trainables()) count += static_cast<double>(t.var.value().numel());
  }
  return count;
}

}  // namespace

TokenFlops count_flops(const nn::LanguageModel& model, const nn::EditSet& edits, bool recompute) {
  TokenFlops flops;
  const int lowest = nn::lowest_trained_layer(model, edits);
  double again = 0;  // what recomputation runs a second time
  for (const nn::Site& site : model.sites().all()) {
    const bool head = site.layer < 0;
    if (site.kind == nn::SiteKind::kLinear) {
      const double product = 2.0 * static_cast<double>(site.shape[0]) * static_cast<double>(site.shape[1]);
      // What an edit trains at a linear is read in products: LoRA's A and B, columns of a sparse change.
      const double added = 2 * trained_numbers(edits, site);
      const double back = product * (site.parameter->trained ? 2 : 1) + 2 * added;
      (head ? flops.head_forward : flops.forward) += product + added;
      if (head) {
        flops.head_backward += back;
      } else if (site.layer >= lowest) {
        flops.backward += back;
        again += product + added;
      }
    } else if (site.kind == nn::SiteKind::kConv) {
      const double work = 2.0 * static_cast<double>(site.shape[0]) * static_cast<double>(site.shape[1]);
      flops.forward += work;
      if (site.layer < lowest) continue;
      flops.backward += work * (site.parameter->trained || !edits.at(site.id).empty() ? 3 : 2);
      again += work;
    }
  }
  for (size_t i = 0; i < model.plan().layers.size(); ++i) {
    const nn::MambaConfig& c = model.plan().layers[i].mixer;
    const double E = static_cast<double>(c.d_inner), EN = E * static_cast<double>(c.d_state);
    const double work = kScanForward * EN + kChannelForward * E;
    flops.forward += work;
    if (static_cast<int>(i) < lowest) continue;
    flops.backward += kScanBackward * EN + kChannelBackward * E;
    again += work;
  }
  if (recompute) flops.backward += again;
  return flops;
}

}  // namespace molt::app
