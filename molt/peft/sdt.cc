#include "molt/peft/sdt.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "molt/base/error.h"
#include "molt/io/adapter.h"
#include "molt/ops/dense_add.h"
#include "molt/ops/scatter_entries.h"
#include "molt/peft/sdt_edits.h"
#include "molt/peft/sdt_prune.h"
#include "molt/peft/sdt_select.h"
#include "molt/peft/targets.h"

namespace molt::peft {
namespace {

/// Warm-up: a dense change of a bare parameter or a convolution's weight.
class DenseParam final : public nn::Edit {
 public:
  DenseParam(const nn::Site& site, Dtype dtype)
      : name_(site.path + ".sdt_warmup"), delta(Var::leaf(Tensor::zeros(site.shape, dtype))) {}
  Var change_param(const nn::EditContext&, const Var& p) const override { return ops::add_param(p, delta); }
  std::vector<nn::Trainable> trainables() const override { return {{name_, delta, false}}; }

 private:
  std::string name_;

 public:
  Var delta;
};

/// Warm-up: a dense change of a projection.
class DenseProduct final : public nn::Edit {
 public:
  DenseProduct(const nn::Site& site, Dtype dtype)
      : name_(site.path + ".sdt_warmup"), delta_(Var::leaf(Tensor::zeros(site.shape, dtype))) {}
  Var add_to_output(const nn::EditContext&, const Var& x, const Var& y) const override {
    return ops::dense_add(y, x, delta_);
  }
  std::vector<nn::Trainable> trainables() const override { return {{name_, delta_, false}}; }

 private:
  std::string name_;
  Var delta_;
};

/// A projection's edit, by the side of it that the chosen channels are on.
struct ProjectionEdit {
  nn::Target target;
  std::shared_ptr<nn::Edit> edit;
  Var delta;
  const char* suffix() const {  // x and z stand at one site
    return !target.slice ? "sdt_delta" : target.slice->name == "x" ? "sdt_delta_x" : "sdt_delta_z";
  }
};

SdtShares shares_of(const SdtConfig& c) {
  return {c.freeze_channels, c.freeze_states, c.prune_channels, c.prune_states};
}

Tensor index_tensor(const std::vector<int64_t>& indices) {
  return Tensor::from(indices, {static_cast<int64_t>(indices.size())});
}

}  // namespace

struct SdtLayer {
  const nn::Site* A_log = nullptr;
  nn::Target B, C;
  const nn::Parameter* dt_bias = nullptr;
  std::vector<const nn::Site*> dense;  // further sites of the "ssm" warm-up
  const nn::Site *dt_proj = nullptr, *y = nullptr;
  std::vector<ProjectionEdit> projections;  // their edits come with the selection

  std::shared_ptr<DenseParam> warm_A;
  std::vector<std::pair<const nn::Site*, std::shared_ptr<nn::Edit>>> warm_rest;

  IndexSet channels, pruned_channels;
  std::vector<int64_t> pruned_entries;
  std::vector<std::pair<const nn::Site*, std::shared_ptr<nn::Edit>>> pruning;
  std::shared_ptr<SparseEntries> entries;
  std::shared_ptr<SparseColumns> B_columns, C_columns;

  void adopt(SdtSelection selection, Dtype dtype) {
    channels = selection.channels;
    pruned_channels = selection.pruned_channels;
    pruned_entries = selection.pruned_entries;
    pruning.clear();
    if (!pruned_channels.empty()) pruning.emplace_back(dt_proj, peft::pruned_channels(pruned_channels));
    if (!pruned_entries.empty()) {
      pruning.emplace_back(A_log, pruned_memory(*A_log, pruned_entries));
      pruning.emplace_back(y, pruned_present(*A_log, pruned_entries));
    }
    for (ProjectionEdit& p : projections) {
      if (p.target.slice) {
        const auto edit = std::make_shared<SparseRows>(p.target, channels, dtype);
        p.edit = edit, p.delta = edit->delta;
      } else {
        const auto edit = std::make_shared<SparseColumns>(p.target, channels, dtype);
        p.edit = edit, p.delta = edit->delta;
      }
    }
    entries = std::make_shared<SparseEntries>(*A_log, std::move(selection.entries), dtype);
    B_columns = std::make_shared<SparseColumns>(B, channels, dtype);
    C_columns = std::make_shared<SparseColumns>(C, channels, dtype);
    warm_A.reset();
    warm_rest.clear();
  }
};

namespace {

/// A typical time step per channel: what dt_proj's bias alone gives,
/// softplus(bias).
Tensor typical_step(const SdtLayer& layer) {
  if (!layer.dt_bias) return Tensor::zeros({layer.A_log->shape[0]}, Dtype::kF64);
  Tensor dt = layer.dt_bias->var.value().to(Dtype::kF64);
  for (int64_t e = 0; e < dt.numel(); ++e) dt.data<double>()[e] = std::log1p(std::exp(dt.data<double>()[e]));
  return dt;
}

}  // namespace

Sdt::Sdt(SdtConfig config, Dtype dtype) : Configured(std::move(config)), dtype_(dtype) {
  if (config_.warmup != "a_log" && config_.warmup != "ssm")
    usage_error("sdt: warmup must be a_log or ssm, is '", config_.warmup, "'");
  if (config_.criterion != "a_log" && config_.criterion != "a_bar")
    usage_error("sdt: criterion must be a_log or a_bar, is '", config_.criterion, "'");
  if (config_.warmup_steps < 1) usage_error("sdt: warmup_steps must be at least 1, is ", config_.warmup_steps);
  for (const auto& [option, value] : {std::pair{"freeze_channels", config_.freeze_channels},
                                      {"freeze_states", config_.freeze_states},
                                      {"prune_channels", config_.prune_channels},
                                      {"prune_states", config_.prune_states}}) {
    if (!(value >= 0) || (value >= 1 && value != std::floor(value)))
      usage_error("sdt: ", option, " must be a share from 0 to below 1, or a count, is ", value);
  }
  for (const std::string& p : config_.projections) {
    if (p != "out_proj" && p != "in_proj:x" && p != "in_proj:z")
      usage_error("sdt: projections may be out_proj, in_proj:x and in_proj:z, not '", p, "'");
    if (std::count(config_.projections.begin(), config_.projections.end(), p) > 1)
      usage_error("sdt: projections names ", p, " twice");
  }
}

Sdt::~Sdt() = default;

void Sdt::attach(const nn::SiteTable& sites) {
  std::vector<nn::Target> found = resolve_targets(sites, {"A_log"}, {nn::SiteKind::kParam});
  for (const nn::Target& target : found) {
    auto layer = std::make_unique<SdtLayer>();
    layer->A_log = target.site;
    const std::string mixer = target.site->path.substr(0, target.site->path.rfind('.') + 1);
    const nn::Site* x_proj = sites.find(mixer + "x_proj");
    const nn::Site* dt_proj = sites.find(mixer + "dt_proj");
    if (target.site->shape.size() != 2 || !x_proj || !dt_proj)
      usage_error("sdt: ", target.site->path,
                  " is not a Mamba-1 mixer's (no x_proj); SDT needs A_log of "
                  "shape (E, N)");
    for (const nn::Slice& slice : x_proj->slices) {
      if (slice.name == "B") layer->B = {x_proj, &slice};
      if (slice.name == "C") layer->C = {x_proj, &slice};
    }
    layer->dt_bias = dt_proj->bias;
    layer->dt_proj = dt_proj;
    layer->y = sites.find(mixer + "tap.y");
    for (const std::string& name : config_.projections) {
      for (const nn::Target& t : nn::match_target(sites, name, {nn::SiteKind::kLinear})) {
        if (t.site->path.rfind(mixer, 0) == 0) layer->projections.push_back({t, nullptr, {}});
      }
    }
    layer->dense = {x_proj, dt_proj, sites.find(mixer + "D"), sites.find(mixer + "conv1d")};
    const int64_t E = target.site->shape[0], N = target.site->shape[1];
    const SdtShares shares = shares_of(config_);
    const auto pruned = [](const char* option, double value) {
      return value > 0 ? str(" and ", option, " ", value, " leave") : std::string(" leaves");
    };
    if (shares.channels(E) <= 0)
      usage_error("sdt: freeze_channels ", config_.freeze_channels, pruned("prune_channels", config_.prune_channels),
                  " none of ", E, " channels to train");
    if (shares.states(N) <= 0)
      usage_error("sdt: freeze_states ", config_.freeze_states, pruned("prune_states", config_.prune_states),
                  " none of ", N, " states to train");
    layers_.push_back(std::move(layer));
  }
  coverage_ = peft::coverage(sites, found);
  begin_phase(0);
}

std::vector<nn::Phase> Sdt::phases() const { return {{"select", config_.warmup_steps}, {"train", 0}}; }

void Sdt::begin_phase(int phase) {
  phase_ = phase;
  for (const auto& layer : layers_) {
    if (phase == 0) {
      layer->warm_A = std::make_shared<DenseParam>(*layer->A_log, dtype_);
      layer->warm_rest.clear();
      if (config_.warmup != "ssm") continue;
      for (const nn::Site* site : layer->dense) {
        if (!site) continue;
        if (site->kind == nn::SiteKind::kLinear) {
          layer->warm_rest.emplace_back(site, std::make_shared<DenseProduct>(*site, dtype_));
        } else {
          layer->warm_rest.emplace_back(site, std::make_shared<DenseParam>(*site, dtype_));
        }
      }
      continue;
    }
    if (layer->entries) continue;  // selection was read back
    MOLT_CHECK(layer->warm_A != nullptr, "sdt: the sparse phase begins without a warm-up");
    layer->adopt(select_dimensions(layer->A_log->parameter->var.value(), layer->warm_A->delta.value(),
                                   typical_step(*layer), config_.criterion, shares_of(config_)),
                 dtype_);
  }
}

void Sdt::bind(nn::EditSet& edits) const {
  for (const auto& layer : layers_) {
    if (phase_ == 0) {
      edits.add(*layer->A_log, layer->warm_A);
      for (const auto& [site, edit] : layer->warm_rest) edits.add(*site, edit);
    } else {
      edits.add(*layer->A_log, layer->entries);
      for (const auto& [site, edit] : layer->pruning) edits.add(*site, edit);
      for (const ProjectionEdit& p : layer->projections) edits.add(*p.target.site, p.edit);
      edits.add(*layer->B.site, layer->B_columns);
      edits.add(*layer->C.site, layer->C_columns);
    }
  }
}

std::vector<std::pair<std::string, Tensor>> Sdt::state() const {
  std::vector<std::pair<std::string, Tensor>> tensors;
  auto put = [&](const std::string& module, const char* suffix, const Tensor& t) {
    tensors.emplace_back(io::peft_key(module, suffix), t);
  };
  for (const auto& layer : layers_) {
    if (phase_ == 0) {
      put(layer->A_log->path, "sdt_warmup", layer->warm_A->delta.value());
      for (const auto& [site, edit] : layer->warm_rest)
        put(site->path, "sdt_warmup", edit->trainables()[0].var.value());
      continue;
    }
    put(layer->A_log->path, "sdt_entries", index_tensor(layer->entries->entries()));
    put(layer->A_log->path, "sdt_delta", layer->entries->delta.value());
    put(layer->B.site->path, "sdt_columns", index_tensor(layer->channels));
    put(layer->B.site->path, "sdt_delta_B", layer->B_columns->delta.value());
    put(layer->C.site->path, "sdt_delta_C", layer->C_columns->delta.value());
    if (config_.prune_channels > 0) put(layer->dt_proj->path, "sdt_pruned", index_tensor(layer->pruned_channels));
    if (config_.prune_states > 0) put(layer->A_log->path, "sdt_pruned", index_tensor(layer->pruned_entries));
    for (const ProjectionEdit& p : layer->projections) put(p.target.site->path, p.suffix(), p.delta.value());
  }
  return tensors;
}

void Sdt::load_state(const std::vector<std::pair<std::string, Tensor>>& tensors) {
  const std::map<std::string, Tensor> stored(tensors.begin(), tensors.end());
  auto take = [&](const std::string& module, const char* suffix) {
    const auto at = stored.find(io::peft_key(module, suffix));
    if (at == stored.end()) usage_error("adapter: tensor ", io::peft_key(module, suffix), " is missing");
    return at->second;
  };
  auto indices = [&](const std::string& module, const char* suffix, int64_t limit) {
    const Tensor t = take(module, suffix);
    if (t.dtype() != Dtype::kI64) usage_error("adapter: ", io::peft_key(module, suffix), " must hold 64-bit integers");
    std::vector<int64_t> out(t.data<int64_t>(), t.data<int64_t>() + t.numel());
    for (size_t i = 0; i < out.size(); ++i) {
      if (out[i] < 0 || out[i] >= limit || (i > 0 && out[i] <= out[i - 1]))
        usage_error("adapter: ", io::peft_key(module, suffix), ": index ", out[i], " must ascend and lie below ",
                    limit);
    }
    return out;
  };
  auto copy = [&](const Var& to, const std::string& module, const char* suffix) {
    const Tensor from = take(module, suffix);
    if (from.shape() != to.value().shape())
      usage_error("adapter: ", io::peft_key(module, suffix), " is ", shape_str(from.shape()), ", expected ",
                  shape_str(to.value().shape()));
    Tensor target = to.value();
    target.copy_from(from);
  };
  const bool warm = stored.count(io::peft_key(layers_.at(0)->A_log->path, "sdt_warmup")) > 0;
  if (warm) begin_phase(0);
  phase_ = warm ? 0 : 1;
  for (const auto& layer : layers_) {
    if (warm) {
      copy(layer->warm_A->delta, layer->A_log->path, "sdt_warmup");
      for (const auto& [site, edit] : layer->warm_rest) copy(edit->trainables()[0].var, site->path, "sdt_warmup");
      continue;
    }
    const Shape& shape = layer->A_log->shape;
    SdtSelection selection;
    selection.entries = indices(layer->A_log->path, "sdt_entries", shape[0] * shape[1]);
    selection.channels = indices(layer->B.site->path, "sdt_columns", shape[0]);
    if (config_.prune_channels > 0) selection.pruned_channels = indices(layer->dt_proj->path, "sdt_pruned", shape[0]);
    if (config_.prune_states > 0)
      selection.pruned_entries = indices(layer->A_log->path, "sdt_pruned", shape[0] * shape[1]);
    layer->adopt(std::move(selection), dtype_);
    for (const ProjectionEdit& p : layer->projections) copy(p.delta, p.target.site->path, p.suffix());
    copy(layer->entries->delta, layer->A_log->path, "sdt_delta");
    copy(layer->B_columns->delta, layer->B.site->path, "sdt_delta_B");
    copy(layer->C_columns->delta, layer->C.site->path, "sdt_delta_C");
  }
}

int64_t Sdt::trainable_count() const {
  int64_t count = 0;
  for (const auto& layer : layers_) {
    const int64_t E = layer->A_log->shape[0], N = layer->A_log->shape[1];
    const SdtShares shares = shares_of(config_);
    count += shares.channels(E) * (shares.states(N) + 2 * N);
    for (const ProjectionEdit& p : layer->projections)
      count += shares.channels(E) * (p.target.slice ? p.target.site->shape[1] : p.target.site->shape[0]);
  }
  return count;
}

std::vector<IndexSet> Sdt::channels() const {
  std::vector<IndexSet> all;
  for (const auto& layer : layers_) all.push_back(layer->channels);
  return all;
}

}  // namespace molt::peft
