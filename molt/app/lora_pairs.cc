#include "molt/app/lora_pairs.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "molt/base/error.h"
#include "molt/base/rng.h"
#include "molt/io/adapter.h"
#include "molt/io/finite.h"
#include "molt/peft/configured.h"
#include "molt/peft/foldable.h"
#include "molt/peft/lora_adapter.h"

namespace molt::app {
namespace {

constexpr const char* kMergeInstead =
    "; try `molt merge` (--format gguf for llama.cpp), which says if it cannot be merged";

/// Low-rank parts of one site, one after the other.
struct Part {
  Tensor A, B;
  int64_t out = 0;  ///< first row of the whole B
  double scale = 1;
};

/// One pair of all parts. The common scale stays a scale; others go into B.
LoraPair stacked(const nn::Site& site, const std::vector<Part>& parts) {
  const bool embedding = site.kind == nn::SiteKind::kEmbedding;
  int64_t rank = 0;
  bool same = true;
  for (const Part& p : parts) rank += p.A.rows(), same = same && p.scale == parts[0].scale;
  LoraPair pair{&site, Tensor::zeros({rank, parts[0].A.cols()}, Dtype::kF32),
                Tensor::zeros({embedding ? site.shape[1] : site.shape[0], rank}, Dtype::kF32),
                same ? parts[0].scale : 1};
  int64_t at = 0;
  for (const Part& p : parts) {
    pair.A.row_range(at, p.A.rows()).copy_from(p.A);
    const Tensor b = same ? p.B : p.B.clone();
    if (!same) Tensor(b).scale(p.scale);
    pair.B.row_range(p.out, b.rows()).col_range(at, b.cols()).copy_from(b);
    at += p.A.rows();
  }
  return pair;
}

/// Every pair that an edit stands for, whatever its method is called.
std::vector<Part> parts_of(const nn::Site& site, const peft::Foldable& edit, const std::string& form) {
  if (site.kind != nn::SiteKind::kLinear && site.kind != nn::SiteKind::kEmbedding)
    usage_error("lora on ", site.path, " (a ", nn::site_kind_name(site.kind), "): ", form,
                " has no low-rank change of it", kMergeInstead);
  std::vector<Part> parts;
  for (const nn::LowRankTerm& t : edit.folded())
    parts.push_back({t.A.value().to(Dtype::kF32), t.B.value().to(Dtype::kF32), t.begin, t.scale});
  return parts;
}

}  // namespace

LoraPairs pairs_of(const LoadedAdapter& adapter, const models::LoadedModel& base, const std::string& form) {
  std::map<int, std::vector<Part>> parts;  // by site
  std::map<int, Tensor> magnitudes;
  std::map<int, const nn::Method*> methods;  // whose parts those are
  std::map<int, int> more_methods;
  for (const nn::Method* method : adapter.methods()) {
    nn::EditSet edits;
    method->bind(edits);
    const auto refuse = [&] {
      usage_error("this adapter holds ", method->name(), ", which ", form, " has no form for", kMergeInstead);
    };
    if (edits.all().empty()) refuse();
    io::NamedTensors state;
    for (const auto& [id, edit] : edits.all()) {
      if (methods.count(id) && methods[id] != method) ++more_methods[id];
      methods[id] = method;
      if (const auto* foldable = dynamic_cast<const peft::Foldable*>(edit.get())) {
        const nn::Site& site = base.model->sites().all()[static_cast<size_t>(id)];
        for (Part& part : parts_of(site, *foldable, form)) parts[id].push_back(std::move(part));
      } else {  // DoRA's: the whole site's, as the method files it
        if (!dynamic_cast<const peft::DoraMagnitude*>(edit.get())) refuse();
        if (state.empty()) state = method->state();
        const std::string key =
            io::peft_key(base.model->sites().all()[static_cast<size_t>(id)].path, "lora_magnitude_vector");
        for (const auto& [name, tensor] : state) {
          if (name == key) magnitudes[id] = tensor.to(Dtype::kF32);
        }
      }
    }
  }
  LoraPairs pairs;
  for (const auto& [id, list] : parts) {
    const nn::Site& site = base.model->sites().all()[static_cast<size_t>(id)];
    pairs.push_back(stacked(site, list));
    const auto magnitude = magnitudes.find(id);
    if (magnitude == magnitudes.end()) continue;
    if (more_methods[id] > 0)
      usage_error("lora with use_dora on ", site.path, " stands beside another method there; ", form,
                  " has no form for that", kMergeInstead);
    pairs.back().magnitude = magnitude->second;
  }
  if (pairs.empty()) usage_error("this adapter changes nothing; there is nothing to convert");
  return pairs;
}

LoraPair fitting_pair(const models::LoadedModel& base, const std::string& module, Tensor A, Tensor B, double scale,
                      const std::string& where) {
  const nn::Site* const site = base.model->sites().find(module);
  const bool embedding = site && site->kind == nn::SiteKind::kEmbedding;
  if (!site || !(embedding || site->kind == nn::SiteKind::kLinear))
    usage_error(where, ": the base has no linear or embedding ", module, "; it belongs to another model (`molt sites ",
                base.checkpoint ? base.checkpoint->directory() : "MODEL", "` prints what there is)");
  const int64_t in = embedding ? site->shape[0] : site->shape[1], out = embedding ? site->shape[1] : site->shape[0];
  if (A.rank() != 2 || B.rank() != 2 || A.cols() != in || B.rows() != out || A.rows() != B.cols() || A.rows() < 1)
    usage_error(where, ": ", module, ": A is ", shape_str(A.shape()), ", B ", shape_str(B.shape()),
                "; the base asks for (R, ", in, ") and (", out, ", R)");
  if (!io::all_finite(A) || !io::all_finite(B) || !std::isfinite(scale))
    usage_error(where, ": ", module, " holds values that are not finite (NaN or infinity)");
  return {site, A.to(Dtype::kF32), B.to(Dtype::kF32), scale};
}

void refuse_tied(const LoraPairs& pairs, const models::LoadedModel& base, const std::string& what_happens) {
  if (!base.model->plan().tied_head) return;
  for (const LoraPair& p : pairs) {
    if (p.site->parameter->lookup)
      usage_error("lora on ", p.site->path,
                  ": the base's head is tied to its embedding; PEFT and Molt change the "
                  "look-up only, ",
                  what_happens, "; leave that part out of target_modules");
  }
}

double difference(const LoraPairs& a, const LoraPairs& b) {
  const double apart = std::numeric_limits<double>::infinity();
  if (a.size() != b.size()) return apart;
  double worst = 0;
  for (const LoraPair& p : a) {
    const auto found = std::find_if(b.begin(), b.end(), [&](const LoraPair& q) { return q.site == p.site; });
    if (found == b.end() || p.magnitude.defined() != found->magnitude.defined()) return apart;
    const Rng rng(11, p.site->path);
    const auto change = [&](const LoraPair& q) {
      std::vector<double> inner(static_cast<size_t>(q.rank()), 0), out(static_cast<size_t>(q.B.rows()), 0);
      const float *A = q.A.data<float>(), *B = q.B.data<float>();
      for (int64_t r = 0; r < q.rank(); ++r) {
        for (int64_t i = 0; i < q.A.cols(); ++i)
          inner[static_cast<size_t>(r)] +=
              rng.normal(static_cast<uint64_t>(i)) * static_cast<double>(A[r * q.A.ld() + i]);
      }
      for (int64_t o = 0; o < q.B.rows(); ++o) {
        for (int64_t r = 0; r < q.rank(); ++r)
          out[static_cast<size_t>(o)] +=
              q.scale * inner[static_cast<size_t>(r)] * static_cast<double>(B[o * q.B.ld() + r]);
      }
      if (q.magnitude.defined()) {
        for (const double m : q.magnitude.values()) out.push_back(m);
      }
      return out;
    };
    const std::vector<double> left = change(p), right = change(*found);
    if (left.size() != right.size()) return apart;
    double largest = 0, off = 0;
    for (size_t i = 0; i < left.size(); ++i) {
      largest = std::max(largest, std::abs(left[i]));
      off = std::max(off, std::abs(left[i] - right[i]));
    }
    if (largest > 0) worst = std::max(worst, off / largest);
    if (largest == 0 && off > 0) return apart;
  }
  return worst;
}

Tensor transposed(const Tensor& matrix) {
  const Tensor from = matrix.to(Dtype::kF32);
  const Tensor to = Tensor::empty({from.cols(), from.rows()}, Dtype::kF32);
  for (int64_t r = 0; r < from.rows(); ++r) {
    for (int64_t c = 0; c < from.cols(); ++c)
      to.data<float>()[c * from.rows() + r] = from.data<float>()[r * from.cols() + c];
  }
  return to;
}

void write_peft_lora(const std::string& directory, const LoraPairs& pairs, const std::string& base_path) {
  // The rank and alpha of most modules are everybody's; the others have patterns.
  const auto alpha = [](const LoraPair& p) { return p.scale * static_cast<double>(p.rank()); };
  std::map<std::pair<int64_t, double>, int> counts;
  bool dora = false, plain = false;
  for (const LoraPair& p : pairs) {
    ++counts[{p.rank(), alpha(p)}];
    (p.magnitude.defined() ? dora : plain) = true;
  }
  if (dora && plain)
    usage_error(
        "some modules of this adapter have DoRA's magnitudes and some have not; PEFT's form has one use_dora "
        "for all");
  const auto most =
      std::max_element(counts.begin(), counts.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  const auto [common_rank, common_alpha] = most->first;
  io::AdapterFiles files;
  Json modules = Json::array(), ranks = Json::object(), alphas = Json::object();
  for (const LoraPair& p : pairs) {
    const std::string& path = p.site->path;
    const bool embedding = p.site->kind == nn::SiteKind::kEmbedding;
    modules.push_back(path);
    if (p.rank() != common_rank) ranks[path] = p.rank();
    if (alpha(p) != common_alpha) alphas[path] = peft::json_number(alpha(p));
    files.tensors.emplace_back(io::peft_key(path, embedding ? "lora_embedding_A" : "lora_A.weight"), p.A);
    files.tensors.emplace_back(io::peft_key(path, embedding ? "lora_embedding_B" : "lora_B.weight"), p.B);
    if (p.magnitude.defined()) files.tensors.emplace_back(io::peft_key(path, "lora_magnitude_vector"), p.magnitude);
  }
  files.config = peft::peft_base("LORA");
  files.config.update({{"base_model_name_or_path", base_path},
                       {"r", common_rank},
                       {"lora_alpha", peft::json_number(common_alpha)},
                       {"lora_dropout", 0.0},
                       {"use_rslora", false},
                       {"use_dora", dora},
                       {"target_modules", modules},
                       {"rank_pattern", ranks},
                       {"alpha_pattern", alphas},
                       {"bias", "none"},
                       {"fan_in_fan_out", false},
                       {"init_lora_weights", true},
                       {"modules_to_save", nullptr}});
  io::write_adapter(directory, files);
}

}  // namespace molt::app
