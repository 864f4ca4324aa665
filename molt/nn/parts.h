// Parts: what blocks are made of. Each owns or shares a parameter, registers a site, and lets that site's edits act.
// Nothing else in a model reads a weight, so an adapter cannot be bypassed.
#pragma once

#include <string>
#include <vector>

#include "molt/nn/edit.h"
#include "molt/nn/parameter.h"
#include "molt/nn/site.h"
#include "molt/ops/conv.h"

namespace molt::nn {

/// Where a model under construction registers its parts: a path prefix over one table of sites and one of parameters.
class Scope {
 public:
  Scope(SiteTable& sites, ParameterTable& parameters) : sites_(&sites), parameters_(&parameters) {}
  /// The scope below: "backbone" / "layers" -> "backbone.layers".
  Scope operator/(const std::string& name) const;
  /// The same place, its sites counted as layer i.
  Scope in_layer(int layer) const;
  /// The same place, its parameters counted as state-space parameters.
  Scope as_ssm() const;
  /// The same place, its linears counted to a preset (nn/site.h) as well.
  Scope in_preset(const std::string& name) const;

  std::string path(const std::string& name) const { return prefix_.empty() ? name : prefix_ + "." + name; }
  Parameter& parameter(const std::string& name, Shape shape) const;
  const Site& site(const std::string& name, SiteKind kind, Shape shape, std::vector<Slice> slices = {},
                   const Parameter* parameter = nullptr, const Parameter* bias = nullptr) const;

 private:
  SiteTable* sites_;
  ParameterTable* parameters_;
  std::string prefix_;
  int layer_ = -1;
  bool ssm_ = false;
  std::vector<std::string> presets_;
};

/// Consecutive slices from names and sizes.
std::vector<Slice> consecutive(const std::vector<std::pair<std::string, int64_t>>& sizes);

/// y = x · Wᵀ (+ b), W (out, in).
class Linear {
 public:
  Linear() = default;
  Linear(const Scope& scope, const std::string& name, int64_t in, int64_t out, std::vector<Slice> slices, bool bias);
  /// A linear over a parameter that exists already (tied heads).
  Linear(const Scope& scope, const std::string& name, Parameter& shared);
  Parameter& weight() const { return *weight_; }
  /// `narrow`: the output may be kept in bf16; only where takes_narrow().
  Var operator()(const Context& c, const Var& x, bool narrow = false) const;
  /// Whether its input and output may be kept in bf16: products round their operands to it anyway, nothing trains here
  /// but a low-rank addition, and no other edit sees them.
  bool takes_narrow(const Context& c) const;
  /// The weight, where this is nothing but a frozen product; null otherwise.
  const PackedMatrix* plain(const Context& c) const;

 private:
  struct Product {
    Var x, bias;
    Dtype out = Dtype::kF32;
    Tensor known;  // the result, where an earlier run has it
  };
  /// The product and the only edit in one pass; undefined where they are two.
  Var with_low_rank(const EditContext& e, const std::vector<std::shared_ptr<Edit>>& edits, const Product& p) const;
  /// What a second run can do with: nothing, where the result costs less to compute than to keep; the result with all
  /// that is added to it, where that is a low-rank term at most; else the product alone.
  enum class Keeping { kNothing, kProduct, kResult };
  Keeping keeping(const EditContext& e, const std::vector<std::shared_ptr<Edit>>& edits) const;
  Parameter* weight_ = nullptr;
  Parameter* bias_ = nullptr;
  const Site* site_ = nullptr;
};

/// Causal depthwise convolution + SiLU, W (E, K).
class Conv {
 public:
  Conv() = default;
  Conv(const Scope& scope, const std::string& name, int64_t channels, int64_t width, bool bias);
  /// `tail` (S, K−1, E) or undefined: what came before each segment.
  ops::ConvResult operator()(const Context& c, const Var& x, const Var& tail, bool want_tail) const;
  /// Whether its input may be kept in bf16.
  bool takes_narrow(const Context& c) const;

 private:
  Parameter* weight_ = nullptr;
  Parameter* bias_ = nullptr;
  const Site* site_ = nullptr;
};

/// Rows of a table by token id.
class Embedding {
 public:
  Embedding() = default;
  Embedding(const Scope& scope, const std::string& name, int64_t vocabulary, int64_t width);
  Var operator()(const Context& c, const std::vector<int32_t>& ids, Dtype out) const;
  /// Learned rows before every segment, in attach order; mostly none.
  std::vector<Var> rows_before(const Context& c) const;
  Parameter& parameter() const { return *table_; }

 private:
  Parameter* table_ = nullptr;
  const Site* site_ = nullptr;
};

/// A bare tensor of the model: A_log, D, a norm's weight.
class Param {
 public:
  Param() = default;
  Param(const Scope& scope, const std::string& name, Shape shape);
  Var operator()(const Context& c) const;

 private:
  Parameter* value_ = nullptr;
  const Site* site_ = nullptr;
};

/// An activation worth naming.
class Tap {
 public:
  Tap() = default;
  Tap(const Scope& scope, const std::string& name, int64_t width);
  /// `seen`: what the block has computed so far.
  Var operator()(const Context& c, Var x, const Activations& seen) const;
  /// Whether z and y may be kept in bf16: nothing is edited here, or by edits that take them so.
  bool takes_narrow(const Context& c) const;

 private:
  const Site* site_ = nullptr;
};

/// An initial state that nobody sets unless a method does: zeros.
class State {
 public:
  State() = default;
  State(const Scope& scope, const std::string& name, Shape per_segment);
  /// (S, …) or undefined for zeros.
  Var operator()(const Context& c) const;
  bool edited(const Context& c) const;

 private:
  const Site* site_ = nullptr;
};

/// Rows of a block's input that stand before every segment: none unless a method brings some.
class Prefix {
 public:
  Prefix() = default;
  Prefix(const Scope& scope, const std::string& name, int64_t width);
  /// (M, D) each, in attach order.
  std::vector<Var> operator()(const Context& c) const;

 private:
  const Site* site_ = nullptr;
};

}  // namespace molt::nn
