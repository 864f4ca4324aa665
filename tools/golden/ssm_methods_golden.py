"""Ten training losses of the methods that peers do not have (or not on Mamba): initial states, prefixes, prompts, more states,
offsets of the state and of the output; directly, through their networks, with factors, and together.

Written from the equations in torch, float64, one token at a time: virtual rows really stand in front of each segment, and their
outputs are dropped. Tensors have the keys of Molt's adapters.
"""

import shutil

import torch
import torch.nn.functional as F

import cases
import lora_golden
import mamba_reference as plain
from common import GOLDEN, save_tensors, write_case_json

STEPS, LR = 10, 1e-2
MIXER = "base_model.model.backbone.layers.{}.mixer."


def network_rows(t, key):
    """embedding -> linear -> tanh -> linear, where the tensors of such a network are there; else the tensor itself."""
    if key in t:
        return t[key]
    if key + ".embedding" not in t:
        return None
    hidden = torch.tanh(F.linear(t[key + ".embedding"], t[key + ".up.weight"], t[key + ".up.bias"]))
    return F.linear(hidden, t[key + ".down.weight"], t[key + ".down.bias"])


def mixer(p, block, x, config, t, layer):
    """x (L, D) -> y (L, D), with the method tensors t of this layer."""
    g = lambda name: p.get(block + name)
    site = MIXER.format(layer)
    E, N, K, R = config["intermediate_size"], config["state_size"], config["conv_kernel"], config["time_step_rank"]
    length = x.shape[0]
    rows = network_rows(t, site + "prefix.rows")
    if rows is not None:
        x = torch.cat([rows, x])
    total = x.shape[0]
    u, z = F.linear(x, g("in_proj.weight"), g("in_proj.bias")).split([E, E], dim=-1)

    left = network_rows(t, site + "conv0.initial_state")
    padded = torch.cat([u.new_zeros(K - 1, E) if left is None else left, u])
    w = g("conv1d.weight")[:, 0, :]
    c = sum(padded[k : k + total] * w[:, k] for k in range(K))
    if g("conv1d.bias") is not None:
        c = c + g("conv1d.bias")
    c = F.silu(c)

    dt_low, B, C = F.linear(c, g("x_proj.weight")).split([R, N, N], dim=-1)
    own_C = C
    dt = F.softplus(F.linear(dt_low, g("dt_proj.weight"), g("dt_proj.bias")))
    A_log = g("A_log")
    h = network_rows(t, site + "h0.initial_state")
    if h is None:
        h = c.new_zeros(E, N)
    elif site + "h0.initial_state" not in t:
        h = h.T  # the network writes a row per state
    if site + "A_log.additional_scan" in t:
        more = t[site + "A_log.additional_scan"]
        A_log = torch.cat([A_log, more], dim=1)
        B = torch.cat([B, F.linear(c, t[site + "tap.B.additional_scan"])], dim=1)
        C = torch.cat([C, F.linear(c, t[site + "tap.C.additional_scan"])], dim=1)
        h = torch.cat([h, h.new_zeros(E, more.shape[1])], dim=1)
    A = -torch.exp(A_log)
    ys = []
    for s in range(total):
        h = torch.exp(dt[s, :, None] * A) * h + dt[s, :, None] * B[s] * c[s, :, None]
        ys.append(h @ C[s] + g("D") * c[s])
    y = torch.stack(ys)
    for word in ("state_offset", "output_offset"):
        offset = t.get(site + f"tap.y.{word}")
        if site + f"tap.y.{word}_A" in t:
            a, b = t[site + f"tap.y.{word}_A"], t[site + f"tap.y.{word}_B"]
            offset = b @ a if word == "state_offset" else (b @ a.T).reshape(E)
        if offset is not None:
            y = y + (own_C @ offset.T if word == "state_offset" else offset)
    y = y * F.silu(z)
    return F.linear(y[total - length :], g("out_proj.weight"), g("out_proj.bias"))


def forward(p, ids, config, t):
    eps = config["layer_norm_epsilon"]
    x = p["backbone.embeddings.weight"][ids]
    if "prompt_embeddings" in t:
        x = torch.cat([t["prompt_embeddings"], x])
    for i in range(config["num_hidden_layers"]):
        block = f"backbone.layers.{i}."
        x = x + mixer(p, block + "mixer.", plain.rms_norm(x, p[block + "norm.weight"], eps), config, t, i)
    x = plain.rms_norm(x[x.shape[0] - len(ids) :], p["backbone.norm_f.weight"], eps)
    return F.linear(x, p.get("lm_head.weight", p["backbone.embeddings.weight"]))


def network_shapes(key, rows, width, hidden):
    return {key + ".embedding": (rows, width), key + ".up.weight": (hidden, width), key + ".up.bias": (hidden,),
            key + ".down.weight": (width, hidden), key + ".down.bias": (width,)}


def runs(config):
    """{name: (methods as a recipe names them, {key: shape})}."""
    D, E, N, K = config["hidden_size"], config["intermediate_size"], config["state_size"], config["conv_kernel"]
    every = lambda shapes: {k: v for i in range(config["num_hidden_layers"]) for k, v in shapes(MIXER.format(i)).items()}
    folded = next(m for m in range(int(E**0.5), 0, -1) if E % m == 0)
    states = every(lambda s: {s + "h0.initial_state": (E, N), s + "conv0.initial_state": (K - 1, E)})
    more = every(lambda s: {s + "A_log.additional_scan": (E, 3), s + "tap.B.additional_scan": (3, E),
                            s + "tap.C.additional_scan": (3, E)})
    prefix = every(lambda s: {s + "prefix.rows": (3, D)})
    offset = every(lambda s: {s + "tap.y.state_offset": (E, N)})
    both = {"method": "initial_state", "target_modules": ["h0", "conv0"]}
    return {
        "initial_state": ([both], states),
        "initial_state_network": (
            [both | {"encoder_hidden_size": 6}],
            every(lambda s: network_shapes(s + "h0.initial_state", N, E, 6)
                  | network_shapes(s + "conv0.initial_state", K - 1, E, 6))),
        "prefix": ([{"method": "prefix_tuning", "num_virtual_tokens": 3}], prefix),
        "prefix_network": (
            [{"method": "prefix_tuning", "num_virtual_tokens": 3, "prefix_projection": True, "encoder_hidden_size": 5}],
            every(lambda s: network_shapes(s + "prefix.rows", 3, D, 5))),
        "prompt": ([{"method": "prompt_tuning", "num_virtual_tokens": 3}], {"prompt_embeddings": (3, D)}),
        "additional_scan": ([{"method": "additional_scan", "extra_states": 3}], more),
        "state_offset": ([{"method": "state_offset"}], offset),
        "state_offset_r2": ([{"method": "state_offset", "r": 2}],
                            every(lambda s: {s + "tap.y.state_offset_A": (2, N), s + "tap.y.state_offset_B": (E, 2)})),
        "output_offset": ([{"method": "state_offset", "offset": "y"}],
                          every(lambda s: {s + "tap.y.output_offset": (E,)})),
        "output_offset_r2": ([{"method": "state_offset", "offset": "y", "r": 2}],
                             every(lambda s: {s + "tap.y.output_offset_A": (E // folded, 2),
                                              s + "tap.y.output_offset_B": (folded, 2)})),
        "together": ([both, {"method": "prefix_tuning", "num_virtual_tokens": 3},
                      {"method": "prompt_tuning", "num_virtual_tokens": 3}, {"method": "additional_scan", "extra_states": 3},
                      {"method": "state_offset"}],
                     states | prefix | {"prompt_embeddings": (3, D)} | more | offset),
    }


def make_all(mamba, case, model, stream):
    config = cases.config_dict(model.config)
    seed = cases.CONFIGS[case]["seed"]
    base = lora_golden.base_params(model, torch.float64)
    count = int((stream.targets != -100).sum())
    for name, (methods, shapes) in runs(config).items():
        directory = mamba / case / "ssm_methods" / name
        shutil.rmtree(directory, ignore_errors=True)
        # Nothing starts at zero here: every tensor must matter from the first loss on.
        init = {k: cases.normal(seed, f"{name}.{k}", shape, 0.3) for k, shape in shapes.items()}
        leaves = {k: v.double().requires_grad_() for k, v in init.items()}
        optimizer = torch.optim.AdamW(list(leaves.values()), lr=LR, weight_decay=0.0)
        losses, grads = [], {}
        for step in range(STEPS):
            rows = torch.cat([forward(base, ids, config, leaves) for ids, _ in stream.segments()])
            loss = F.cross_entropy(rows, stream.targets, ignore_index=-100, reduction="sum") / count
            optimizer.zero_grad()
            loss.backward()
            if step == 0:
                grads = {f"grad0.{k}": v.grad.clone() for k, v in leaves.items()}
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < losses[0], losses
        save_tensors(directory / "init.safetensors", init)
        save_tensors(directory / "golden.safetensors", grads | {f"final.{k}": v for k, v in leaves.items()})
        write_case_json(directory, {
            "case": f"{case}/ssm_methods/{name}", "seed": seed, "base": "../../checkpoint", "stream": "../../golden.safetensors",
            "methods": methods, "settings": {"lr": LR, "weight_decay": 0.0, "steps": STEPS},
            "arrays": "init: first values; grad0.KEY: gradient of the mean loss at the first step; final.KEY: after ten steps",
            "losses_f64": losses})
        print(f"  {case}/ssm_methods/{name}: {losses[0]:.5f} -> {losses[-1]:.5f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in ("tied_small", "untied_odd"):
        made = cases.make_model(name)
        make_all(GOLDEN / "mamba", name, made, cases.make_stream(cases.CONFIGS[name]["seed"], cases.CONFIGS[name]["vocab_size"]))
