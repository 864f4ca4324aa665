"""SDT-P, SDT+ and the paper's own warm-up and criterion (Galim et al.) in float64: selection, then ten losses of sparse training.

Beside sdt_reference.py, which follows the authors' program. Written from the paper, in torch: a pruned state is left out of the sum
that makes the output, and all states of a pruned channel are; what is left of the model is untouched. No LoRA stands beside it.

1. Warm-up: five steps of AdamW on dense zero deltas, of A_log, or ("ssm") also of x_proj, dt_proj, D and conv1d.
2. Abar = exp(-softplus(dt_proj.bias) exp(A_log)). The channels of smallest |Abar| after the warm-up are pruned. Of the others those
   train that changed most: sum of squared changes of A_log ("a_log"), or change of |Abar| ("a_bar"). In each channel that trains the
   same for its states.
3. Again from the pretrained weights: deltas of the chosen entries of A_log, of the chosen channels' columns in x_proj's rows for B and
   C, and with projections of their columns of out_proj and rows of in_proj (kept transposed).

Tensors have the keys of Molt's adapters; channels ascend. usage: sdt_forms.py   writes tests/golden/mamba/CASE/sdt_forms
"""

import shutil

import common

if __name__ == "__main__":
    common.fix_hash_seed()

import torch
import torch.nn.functional as F

import cases
import mamba_reference
from common import GOLDEN, max_abs, save_tensors, write_case_json

WARMUP_STEPS, STEPS, LR = 5, 10, 3e-2
ALL_PROJECTIONS = ["out_proj", "in_proj:x", "in_proj:z"]
FORMS = {
    "sdt_p": dict(freeze_channels=20, freeze_states=1, prune_channels=6, prune_states=1),
    "sdt_plus": dict(freeze_channels=26, freeze_states=2, projections=ALL_PROJECTIONS),
    "paper": dict(freeze_channels=24, freeze_states=2, warmup="ssm", criterion="a_bar"),
    "together": dict(freeze_channels=18, freeze_states=1, prune_channels=7, prune_states=2, projections=["out_proj", "in_proj:z"],
                     warmup="ssm", criterion="a_bar"),
}


def mixer(i):
    return f"backbone.layers.{i}.mixer."


def key(i, name):
    return f"base_model.model.{mixer(i)}{name}"


def adam(leaves):
    return torch.optim.AdamW(list(leaves.values()), lr=LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)


def train(leaves, params_of, alive, stream, config, steps):
    """Mean loss before each update, and the gradients of the first step."""
    optimizer, losses, first = adam(leaves), [], {}
    for _ in range(steps):
        total, labels = mamba_reference.loss_sum(params_of(leaves), stream, config, alive)
        optimizer.zero_grad()
        (total / labels).backward()
        first = first or {k: v.grad.clone() for k, v in leaves.items()}
        optimizer.step()
        losses.append(float((total / labels).detach()))
    return losses, first


def warm_up(base, form, stream, config):
    """Changes (E, N) of A_log, one per layer, and losses."""
    parts = ["A_log"] + (["x_proj.weight", "dt_proj.weight", "D", "conv1d.weight"] if form.get("warmup") == "ssm" else [])
    names = [mixer(i) + part for i in range(config["num_hidden_layers"]) for part in parts]
    leaves = {n: torch.zeros_like(base[n]).requires_grad_() for n in names}
    losses, _ = train(leaves, lambda d: base | {n: base[n] + d[n] for n in names}, None, stream, config, WARMUP_STEPS)
    return [leaves[mixer(i) + "A_log"].detach() for i in range(config["num_hidden_layers"])], losses


def largest(scores, among, count):
    """The `count` places of `among` with the largest scores, ascending; and how far the decision is from another."""
    order = sorted(among, key=lambda e: -float(scores[e]))
    gap = float(scores[order[count - 1]] - scores[order[count]]) if 0 < count < len(order) else float("inf")
    return sorted(order[:count]), gap


def select(base, change, form, i):
    """(channels, entries, pruned channels, pruned entries, smallest gap relative to the largest score) of a layer."""
    A_log = base[mixer(i) + "A_log"]
    E, N = A_log.shape
    dt = F.softplus(base[mixer(i) + "dt_proj.bias"])[:, None]
    before, after = torch.exp(-dt * torch.exp(A_log)), torch.exp(-dt * torch.exp(A_log + change))
    if form.get("criterion") == "a_bar":
        states, channels = (after - before).abs(), (after.norm(dim=1) - before.norm(dim=1)).abs()
    else:
        states, channels = change**2, (change**2).sum(1)
    n_pruned, n_none = form.get("prune_channels", 0), form.get("prune_states", 0)
    gaps = []

    def pick(scores, among, count):
        chosen, gap = largest(scores, among, count)
        gaps.append(gap / float(scores.abs().max()))
        return chosen

    pruned = pick(-after.norm(dim=1), range(E), n_pruned)
    left = [e for e in range(E) if e not in pruned]
    chosen = pick(channels, left, E - n_pruned - form["freeze_channels"])
    entries, pruned_entries = [], []
    for e in chosen:
        gone = pick(-after[e], range(N), n_none)
        pruned_entries += [e * N + n for n in gone]
        rest = [n for n in range(N) if n not in gone]
        entries += [e * N + n for n in pick(states[e], rest, N - n_none - form["freeze_states"])]
    return chosen, entries, pruned, pruned_entries, min(gaps)


def run(base, form, stream, config):
    changes, warm_losses = warm_up(base, form, stream, config)
    E, N, R, D = config["intermediate_size"], config["state_size"], config["time_step_rank"], config["hidden_size"]
    layers = range(config["num_hidden_layers"])
    picks = [select(base, change, form, i) for i, change in enumerate(changes)]
    leaves, alive = {}, []
    for i, (channels, entries, pruned, pruned_entries, _) in enumerate(picks):
        zeros = lambda *shape: torch.zeros(shape, dtype=base[mixer(i) + "A_log"].dtype)
        leaves |= {key(i, "A_log.sdt_delta"): zeros(len(entries)), key(i, "x_proj.sdt_delta_B"): zeros(N, len(channels)),
                   key(i, "x_proj.sdt_delta_C"): zeros(N, len(channels))}
        for p in form.get("projections", []):
            leaves[key(i, p.replace(":", ".sdt_delta_") if ":" in p else p + ".sdt_delta")] = zeros(D, len(channels))
        mask = zeros(E, N) + 1
        mask[pruned] = 0
        mask.view(-1)[pruned_entries] = 0
        alive.append(mask)
    leaves = {k: v.requires_grad_() for k, v in leaves.items()}

    def params_of(leaf):
        p = dict(base)
        for i in layers:
            channels, entries = torch.tensor(picks[i][0]), torch.tensor(picks[i][1])
            row, site = torch.arange(N), mixer(i)
            p[site + "A_log"] = base[site + "A_log"].flatten().index_put((entries,), leaf[key(i, "A_log.sdt_delta")],
                                                                         accumulate=True).view(E, N)
            for first, part in ((R, "B"), (R + N, "C")):
                p[site + "x_proj.weight"] = p[site + "x_proj.weight"].index_put(
                    ((first + row)[:, None], channels[None, :]), leaf[key(i, "x_proj.sdt_delta_" + part)], accumulate=True)
            if key(i, "out_proj.sdt_delta") in leaf:
                p[site + "out_proj.weight"] = base[site + "out_proj.weight"].index_add(1, channels, leaf[key(i, "out_proj.sdt_delta")])
            for first, part in ((0, "x"), (E, "z")):
                if key(i, "in_proj.sdt_delta_" + part) in leaf:
                    p[site + "in_proj.weight"] = p[site + "in_proj.weight"].index_add(
                        0, first + channels, leaf[key(i, "in_proj.sdt_delta_" + part)].T)
        return p

    losses, first = train(leaves, params_of, alive, stream, config, STEPS)
    return picks, warm_losses, losses, first, {k: v.detach() for k, v in leaves.items()}


def make(case, name, model, stream):
    directory = GOLDEN / "mamba" / case / "sdt_forms" / name
    shutil.rmtree(directory, ignore_errors=True)
    config, form = cases.config_dict(model.config), FORMS[name]
    results = {}
    for dtype in (torch.float32, torch.float64):
        base = {n: p.detach().to(dtype) for n, p in model.named_parameters()}
        results[dtype] = run(base, form, stream, config)
    picks, warm_losses, losses, first, final = results[torch.float64]
    assert [p[:4] for p in picks] == [p[:4] for p in results[torch.float32][0]], "the selection must not hang on rounding"
    gap = min(p[4] for p in picks)
    assert losses[-1] < losses[0]
    indices = {}
    for i, (channels, entries, pruned, pruned_entries, _) in enumerate(picks):
        indices |= {key(i, "A_log.sdt_entries"): entries, key(i, "x_proj.sdt_columns"): channels}
        if "prune_channels" in form:
            indices |= {key(i, "dt_proj.sdt_pruned"): pruned, key(i, "A_log.sdt_pruned"): pruned_entries}
    save_tensors(directory / "golden.safetensors",
                 {f"grad0.{k}": v for k, v in first.items()} | {f"final.{k}": v for k, v in final.items()}
                 | {f"final.{k}": torch.tensor(v, dtype=torch.int64) for k, v in indices.items()})
    write_case_json(directory, {
        "case": f"{case}/sdt_forms/{name}", "seed": cases.CONFIGS[case]["seed"], "base": "../../checkpoint",
        "stream": "../../golden.safetensors", "options": form | {"warmup_steps": WARMUP_STEPS},
        "settings": {"lr": LR, "weight_decay": 0.0, "steps": STEPS},
        "arrays": "grad0.KEY: gradient of the mean loss at the first step behind the warm-up; final.KEY: after ten steps",
        "smallest_gap": gap, "warmup_losses_f64": warm_losses, "losses_f64": losses,
        "f32_max_abs_error": max(max_abs(results[torch.float32][4][k], v) for k, v in final.items())})
    print(f"  {case}/sdt_forms/{name}: {warm_losses[0]:.5f} -> {warm_losses[-1]:.5f}, then {losses[0]:.5f} -> {losses[-1]:.5f}; "
          f"gap {gap:.1e}")


def make_all(case, model, stream):
    for name in FORMS:
        make(case, name, model, stream)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for case in ("tied_small", "untied_odd"):
        made = cases.make_model(case)
        make_all(case, made, cases.make_stream(cases.CONFIGS[case]["seed"], cases.CONFIGS[case]["vocab_size"]))
