#include "molt/peft/sdt_prune.h"

#include "molt/base/error.h"
#include "molt/nn/parameter.h"
#include "molt/ops/instant_terms.h"
#include "molt/ops/scatter_entries.h"
#include "molt/ops/set_columns.h"

namespace molt::peft {
namespace {

constexpr double kNoStep = -1e4;    // softplus of it is 0
constexpr double kForgetsAll = 80;  // exp(−Δ e^80) is 0, or f32's smallest number, for every Δ above 1e-32

class PrunedChannels final : public nn::Edit {
 public:
  explicit PrunedChannels(IndexSet channels) : channels_(make_index_set(std::move(channels))) {}
  Var change_output(const nn::EditContext&, const Var& y) const override {
    return ops::set_columns(y, channels_, kNoStep);
  }
  void merge(const nn::Site&, const Tensor& weight) const override {
    for (const int64_t e : *channels_) {
      Tensor row = weight.row_range(e, 1);
      row.fill(0);
    }
  }
  void merge_bias(const nn::Site&, const Tensor& bias) const override {
    for (const int64_t e : *channels_) {
      Tensor one = bias.row_range(e, 1);
      one.fill(kNoStep);
    }
  }
  Stage merge_stage() const override { return Stage::kOutput; }
  std::vector<nn::Trainable> trainables() const override { return {}; }

 private:
  IndexSetPtr channels_;
};

/// A checkpoint has one B and one C for all channels, so it cannot cut one
/// channel's state off.
[[noreturn]] void refuse(const nn::Site& site) {
  usage_error(site.path,
              ": single states are pruned, which a checkpoint "
              "cannot say; it stays an adapter "
              "(prune_states: 0 merges)");
}

class PrunedMemory final : public nn::Edit {
 public:
  PrunedMemory(const nn::Site& A_log, std::vector<int64_t> entries)
      : entries_(ops::make_entry_set(std::move(entries), A_log.shape)) {}
  Var change_param(const nn::EditContext&, const Var& p) const override {
    const std::vector<double> values = p.value().values();
    std::vector<double> change;
    for (const int64_t place : entries_->flat) change.push_back(kForgetsAll - values[static_cast<size_t>(place)]);
    const Tensor delta = Tensor::from(change, {static_cast<int64_t>(change.size())}).to(p.value().dtype());
    return ops::scatter_entries(p, Var(delta), entries_);
  }
  void merge(const nn::Site& site, const Tensor&) const override { refuse(site); }
  std::vector<nn::Trainable> trainables() const override { return {}; }

 private:
  ops::EntrySetPtr entries_;
};

class PrunedPresent final : public nn::Edit {
 public:
  PrunedPresent(const nn::Site& A_log, std::vector<int64_t> entries)
      : entries_(ops::make_entry_set(std::move(entries), A_log.shape)) {}
  Var change_output(const nn::EditContext& e, const Var& y) const override {
    const nn::Activations& a = *e.seen;
    return ops::take_instant_terms(y, a.x, a.dt, a.B, a.C, a.z, entries_);
  }
  void merge(const nn::Site& site, const Tensor&) const override { refuse(site); }
  std::vector<nn::Trainable> trainables() const override { return {}; }

 private:
  ops::EntrySetPtr entries_;
};

}  // namespace

std::shared_ptr<nn::Edit> pruned_channels(IndexSet channels) {
  return std::make_shared<PrunedChannels>(std::move(channels));
}
std::shared_ptr<nn::Edit> pruned_memory(const nn::Site& A_log, std::vector<int64_t> entries) {
  return std::make_shared<PrunedMemory>(A_log, std::move(entries));
}
std::shared_ptr<nn::Edit> pruned_present(const nn::Site& A_log, std::vector<int64_t> entries) {
  return std::make_shared<PrunedPresent>(A_log, std::move(entries));
}

}  // namespace molt::peft
