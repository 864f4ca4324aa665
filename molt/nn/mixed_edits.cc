#include "molt/nn/mixed_edits.h"

#include <optional>
#include <set>

#include "molt/base/error.h"
#include "molt/nn/parameter.h"

namespace molt::nn {
namespace {

using Edits = std::vector<std::shared_ptr<Edit>>;

struct Run {
  Edits edits;
  Segments segments;  // its own, from 0
  int64_t first_segment, first_row;
};

Var rows_of(const Var& v, int64_t begin, int64_t count) {
  return v.defined() ? Var(v.value().row_range(begin, count)) : Var();
}

/// What a run's edits may see.
struct RunContext {
  RunContext(const EditContext& e, const Run& run, int64_t begin, int64_t count) : context(e.run) {
    context.segments = &run.segments;
    if (e.input) input = rows_of(*e.input, begin, count);
    if (e.seen)
      seen = {rows_of(e.seen->x, begin, count), rows_of(e.seen->z, begin, count), rows_of(e.seen->dt, begin, count),
              rows_of(e.seen->B, begin, count), rows_of(e.seen->C, begin, count)};
    edit.emplace(EditContext{context, e.site, e.input ? &input : nullptr, e.seen ? &seen : nullptr});
  }
  Context context;
  Var input;
  Activations seen;
  std::optional<EditContext> edit;
};

class MixedEdit final : public Edit {
 public:
  MixedEdit(std::vector<Run> runs, const Segments& all) : runs_(std::move(runs)), all_(all) {}

  Var change_input(const EditContext& e, const Var& x) const override {
    return each(e, x, [](const Edit& edit, const EditContext& own, const Var& rows, int64_t, int64_t) {
      return edit.change_input(own, rows);
    });
  }
  Var add_to_output(const EditContext& e, const Var& x, const Var& y) const override {
    return each(e, y, [&](const Edit& edit, const EditContext& own, const Var& rows, int64_t begin, int64_t count) {
      return edit.add_to_output(own, rows_of(x, begin, count), rows);
    });
  }
  Var add_to_rows(const EditContext& e, const std::vector<int32_t>& ids, const Var& y) const override {
    return each(e, y, [&](const Edit& edit, const EditContext& own, const Var& rows, int64_t begin, int64_t count) {
      return edit.add_to_rows(own, {ids.begin() + begin, ids.begin() + begin + count}, rows);
    });
  }
  Var change_output(const EditContext& e, const Var& y) const override {
    return each(e, y, [](const Edit& edit, const EditContext& own, const Var& rows, int64_t, int64_t) {
      return edit.change_output(own, rows);
    });
  }
  Var initial_state(const EditContext& e, int64_t segments) const override {
    Tensor all;
    for (const Run& run : runs_) {
      const RunContext own(e, run, 0, 0);
      Var sum;
      for (const auto& edit : run.edits) {
        const Var state = edit->initial_state(*own.edit, run.segments.count());
        if (!state.defined()) continue;
        if (!sum.defined()) {
          sum = Var(state.value().clone());
        } else {
          Tensor(sum.value()).add(state.value());
        }
      }
      if (!sum.defined()) continue;
      if (!all.defined()) {
        Shape shape = sum.value().shape();
        shape[0] = segments;
        all = Tensor::zeros(shape, sum.value().dtype());
      }
      all.row_range(run.first_segment, run.segments.count()).copy_from(sum.value());
    }
    return all.defined() ? Var(all) : Var();
  }
  std::vector<Trainable> trainables() const override { return {}; }

 private:
  /// `values` with each run's rows replaced by what f makes of them. Rows are those of the stream, or one per segment
  /// (the last of each, which the head sees).
  template <class F>
  Var each(const EditContext& e, const Var& values, const F& f) const {
    const int64_t rows = values.value().rows();
    const bool per_segment = rows != all_.tokens() && rows == all_.count();
    MOLT_CHECK(per_segment || rows == all_.tokens(), e.site.path, ": ", rows, " rows of mixed adapters in a pass of ",
               all_.tokens());
    const Tensor out = values.value().clone();
    for (const Run& run : runs_) {
      const int64_t begin = per_segment ? run.first_segment : run.first_row;
      const int64_t count = per_segment ? run.segments.count() : run.segments.tokens();
      if (count == 0) continue;
      const RunContext own(e, run, begin, count);
      Var now(out.row_range(begin, count));
      for (const auto& edit : run.edits) now = f(*edit, *own.edit, now, begin, count);
      Tensor to = out.row_range(begin, count);
      MOLT_CHECK(now.value().shape() == to.shape(), e.site.path, ": an adapter changes the width of a mixed pass");
      if (now.value().raw() != to.raw())
        to.copy_from(now.value().dtype() == to.dtype() ? now.value() : now.value().to(to.dtype()));
    }
    return Var(out);
  }

  std::vector<Run> runs_;
  Segments all_;
};

}  // namespace

std::string why_not_by_rows(const EditSet& edits, const SiteTable& sites) {
  const Context none;
  for (const auto& [id, edit] : edits.all()) {
    const Site& site = sites.all()[static_cast<size_t>(id)];
    const EditContext e{none, site};
    if (site.kind == SiteKind::kParam || site.kind == SiteKind::kConv)
      return str(site.path, ": it changes the parameter itself");
    if (site.kind == SiteKind::kPrefix || (site.kind == SiteKind::kEmbedding && edit->rows_before(e).defined()))
      return str(site.path, ": it puts rows before every segment");
    if (site.kind == SiteKind::kLinear) {
      const Var bias = site.bias ? site.bias->var : Var();
      const Var changed = edit->change_bias(e, bias);
      const bool same =
          changed.defined() == bias.defined() && (!bias.defined() || changed.value().raw() == bias.value().raw());
      if (!same) return str(site.path, ": it changes the bias");
    }
  }
  return "";
}

EditSet mixed_edits(const SiteTable& sites, const Segments& segments, const std::vector<EditRun>& runs) {
  std::set<int> touched;
  int64_t covered = 0;
  for (const EditRun& run : runs) {
    covered += run.segments;
    if (!run.edits) continue;
    for (const auto& [id, edit] : run.edits->all()) touched.insert(id);
  }
  MOLT_CHECK(covered == segments.count(), "mixed_edits: runs cover ", covered, " of ", segments.count(), " segments");
  EditSet mixed;
  for (const int id : touched) {
    std::vector<Run> own;
    int64_t first = 0;
    for (const EditRun& run : runs) {
      const Edits edits = run.edits ? run.edits->at(id) : Edits{};
      if (!edits.empty() && run.segments > 0) {
        Segments part;
        for (int64_t s = first; s < first + run.segments; ++s) part.append(segments.length(s));
        own.push_back({edits, part, first, segments.begin(first)});
      }
      first += run.segments;
    }
    if (!own.empty())
      mixed.add(sites.all()[static_cast<size_t>(id)], std::make_shared<MixedEdit>(std::move(own), segments));
  }
  return mixed;
}

}  // namespace molt::nn
