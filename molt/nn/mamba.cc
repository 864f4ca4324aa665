#include "molt/nn/mamba.h"

#include "molt/ops/concat_columns.h"
#include "molt/ops/scan.h"

namespace molt::nn {

MambaMixer::MambaMixer(const Scope& s, const MambaConfig& c)
    : config_(c),
      in_proj_(s.in_preset("in_out"), "in_proj", c.d_model, 2 * c.d_inner,
               consecutive({{"x", c.d_inner}, {"z", c.d_inner}}), c.proj_bias),
      conv1d_(s.as_ssm(), "conv1d", c.d_inner, c.d_conv, c.conv_bias),
      x_proj_(s.as_ssm(), "x_proj", c.d_inner, c.dt_rank + 2 * c.d_state,
              consecutive({{"dt", c.dt_rank}, {"B", c.d_state}, {"C", c.d_state}}), false),
      dt_proj_(s.as_ssm(), "dt_proj", c.dt_rank, c.d_inner, {}, true),
      A_log_(s.as_ssm(), "A_log", {c.d_inner, c.d_state}),
      D_(s.as_ssm(), "D", {c.d_inner}),
      out_proj_(s.in_preset("in_out"), "out_proj", c.d_inner, c.d_model, {}, c.proj_bias),
      conv0_(s.as_ssm(), "conv0", {c.d_conv - 1, c.d_inner}),
      h0_(s.as_ssm(), "h0", {c.d_inner, c.d_state}),
      prefix_(s, "prefix", c.d_model),
      x_(s.as_ssm(), "tap.x", c.d_inner),
      z_(s.as_ssm(), "tap.z", c.d_inner),
      dt_(s.as_ssm(), "tap.dt", c.d_inner),
      B_(s.as_ssm(), "tap.B", c.d_state),
      C_(s.as_ssm(), "tap.C", c.d_state),
      y_(s.as_ssm(), "tap.y", c.d_inner) {}

Var MambaMixer::forward(const Context& c, const Var& u, const BlockCarry* in, BlockCarry* out) const {
  return run(c, u, in, out, true);
}

BlockCarry MambaMixer::carry_after(const Context& c, const Var& u, const BlockCarry* in) const {
  BlockCarry out;
  run(c, u, in, &out, false);
  return out;
}

Var MambaMixer::run(const Context& c, const Var& u, const BlockCarry* in, BlockCarry* out, bool want_y) const {
  if (!in) {
    if (const std::vector<Var> prefixes = prefix_(c); !prefixes.empty()) {
      const BlockCarry start = after(c, prefixes);
      return advance(c, u, &start, out, want_y);
    }
  }
  return advance(c, u, in, out, want_y);
}

BlockCarry MambaMixer::after(const Context& c, const std::vector<Var>& prefixes) const {
  BlockCarry carry;
  Context once = c;
  once.keeps = once.known = nullptr;
  for (const Var& rows : prefixes) {
    const Segments one = Segments::one(rows.value().rows());
    const BlockCarry before = carry;
    once.segments = &one;
    advance(once, rows, before.ssm.defined() ? &before : nullptr, &carry, false);
  }
  return repeat_carry(carry, c.segments->count());
}

bool MambaMixer::taps_take_narrow(const Context& c) const {
  for (const Tap* tap : {&x_, &z_, &dt_, &B_, &C_, &y_}) {
    if (!tap->takes_narrow(c)) return false;
  }
  return true;
}

Var MambaMixer::advance(const Context& c, const Var& u, const BlockCarry* in, BlockCarry* out, bool want_y) const {
  const int64_t E = config_.d_inner, N = config_.d_state, R = config_.dt_rank;
  Activations seen;
  // What only products and the scan read is kept in bf16 where the products compute in it and no edit comes in between
  // but those that read and write it so. Not in decoding, where a step is too short to gain by it, and not where a
  // learned tail must keep its bits.
  const Var tail = in && in->conv.defined() ? in->conv : conv0_(c);
  const bool decoding = out && c.segments->tokens() == c.segments->count();
  const bool narrow = !decoding && !conv0_.edited(c) && in_proj_.takes_narrow(c) && conv1d_.takes_narrow(c) &&
                      out_proj_.takes_narrow(c) && taps_take_narrow(c);
  const Var xz = in_proj_(c, u, narrow);
  const Var z = seen.z = z_(c, xz.columns(E, E), seen);

  const ops::ConvResult conv = conv1d_(c, xz.columns(0, E), tail, out != nullptr);
  const Var x = seen.x = x_(c, conv.y, seen);

  const Var dbc = x_proj_(c, x);
  const Var dt = seen.dt = dt_(c, dt_proj_(c, dbc.columns(0, R)), seen);
  const Var B = seen.B = B_(c, dbc.columns(R, N), seen);
  const Var C = seen.C = C_(c, dbc.columns(R + N, N), seen);

  const Var A_log = A_log_(c);
  Var h0 = in && in->ssm.defined() ? in->ssm : h0_(c);
  if (h0.defined()) h0 = ops::pad_columns(h0, A_log.value().cols());  // states that a method has added start from zero
  const ops::ScanResult scan = ops::selective_scan(
      {.x = x, .dt = dt, .A_log = A_log, .B = B, .C = C, .D = D_(c), .z = want_y ? z : Var(), .h0 = h0}, *c.segments,
      out != nullptr);
  if (out) *out = {.conv = conv.tail, .ssm = scan.state};
  return want_y ? out_proj_(c, y_(c, scan.y, seen)) : Var();
}

}  // namespace molt::nn
