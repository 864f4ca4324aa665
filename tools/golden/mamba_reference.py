"""A plain Mamba-1 language model in torch, in any float type: the slow truth written from the equations, not from the peer.

Letters: L length, D model width, E inner width, N state, K conv width, R rank of the time step, V vocabulary.
Parameters come as a dict under transformers' names. One segment at a time, no batch dimension.
"""

import torch
import torch.nn.functional as F


def rms_norm(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def mixer(p, prefix, x, config, alive=None):
    """One mixer: x (L, D) -> y (L, D), the final SSM state (E, N) and the last K-1 inputs of the convolution (E, K-1). `alive`
    (E, N): ones, and zeros for states that are left out of the output."""
    g = lambda name: p.get(prefix + name)
    E, N, K, R = config["intermediate_size"], config["state_size"], config["conv_kernel"], config["time_step_rank"]
    length = x.shape[0]
    u, z = F.linear(x, g("in_proj.weight"), g("in_proj.bias")).split([E, E], dim=-1)

    # Causal depthwise convolution: output t reads inputs t-K+1 .. t; inputs before the segment are zero.
    padded = torch.cat([u.new_zeros(K - 1, E), u])
    w = g("conv1d.weight")[:, 0, :]
    c = sum(padded[k : k + length] * w[:, k] for k in range(K))
    if g("conv1d.bias") is not None:
        c = c + g("conv1d.bias")
    c = F.silu(c)

    dt_low, B, C = F.linear(c, g("x_proj.weight")).split([R, N, N], dim=-1)
    dt = F.softplus(F.linear(dt_low, g("dt_proj.weight"), g("dt_proj.bias")))
    A = -torch.exp(g("A_log"))
    h = c.new_zeros(E, N)
    ys = []
    for t in range(length):
        h = torch.exp(dt[t, :, None] * A) * h + dt[t, :, None] * B[t] * c[t, :, None]
        ys.append((h if alive is None else h * alive) @ C[t] + g("D") * c[t])
    y = torch.stack(ys) * F.silu(z)
    return F.linear(y, g("out_proj.weight"), g("out_proj.bias")), h, padded[length:].T


def forward(p, ids, config, states=None, alive=None):
    """Logits (L, V) of one segment `ids` (L). When `states` is a list it receives (ssm_state, conv_tail) per layer. `alive`: see
    mixer(), one per layer.

    The head is `lm_head.weight` where the dict has it, else the embedding (tied).
    """
    eps = config["layer_norm_epsilon"]
    x = p["backbone.embeddings.weight"][ids]
    for i in range(config["num_hidden_layers"]):
        block = f"backbone.layers.{i}."
        y, ssm, conv = mixer(p, block + "mixer.", rms_norm(x, p[block + "norm.weight"], eps), config,
                             None if alive is None else alive[i])
        x = x + y
        if states is not None:
            states.append((ssm, conv))
    x = rms_norm(x, p["backbone.norm_f.weight"], eps)
    return F.linear(x, p.get("lm_head.weight", p["backbone.embeddings.weight"]))


def loss_sum(p, stream, config, alive=None):
    """Summed cross-entropy over all labelled positions of a stream, and their count. stream: see cases.Stream; alive: forward()."""
    total, count = 0.0, 0
    for ids, targets in stream.segments():
        logits = forward(p, ids, config, alive=alive)
        total = total + F.cross_entropy(logits, targets, ignore_index=-100, reduction="sum")
        count += int((targets != -100).sum())
    return total, count
