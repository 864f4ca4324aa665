"""SDT (Galim et al., ICML 2025; called SDLoRA in its first version) on Mamba in float64: selection and sparse training.

The reference for Molt's SDT. It follows the behaviour of the authors' Mamba code, re-implemented from its description:

1. Warm-up: every A_log gets a dense zero delta G of its own shape, trained together with LoRA (scale 1) on out_proj by the same
   AdamW. x_proj is not trained. After the given number of steps only G is kept, and only for ranking.
2. Start again from the pretrained weights and the first LoRA tensors.
3. Channels: importance = sum over states of G^2, descending. The first `train` channels train, the last `zero` are zeroed, the
   rest stay frozen. A ratio is turned into a count by round-half-to-even: zero = round(ratio_zero E), freeze = round(ratio_freeze
   E), train = E - zero - freeze. An integer is a count.
4. States, inside each trained channel: importance G^2, descending, counts in the same way from the state settings.
5. Sparse phase: delta on A_log at the chosen (channel, state) entries, and on the chosen channels' columns in the B and C rows
   of x_proj (all states), all from zero, plus LoRA on out_proj. A zeroed channel (or state of a trained channel) has A_log := 10.

Letters: E channels (inner width), N states, R rank of the time step.

usage: sdt_reference.py   writes tests/golden/mamba/tied_small/sdt (needs the case's own files; make_mamba_golden.py runs it too)
"""

import json
import shutil

import common

if __name__ == "__main__":
    common.fix_hash_seed()

import safetensors.torch
import torch

import cases
import mamba_reference
from common import GOLDEN, max_abs, save_tensors, write_case_json

RANK = 4  # LoRA on out_proj, alpha = rank
WARMUP_STEPS = 5
SPARSE_STEPS = 5
LR = 3e-2  # so large that importances lie far apart: Adam's first steps are all about the same size
ZEROED_A_LOG = 10.0

# Ratios (floats) or counts (ints), of channels and of states.
SELECTIONS = {
    "ratios": dict(freeze=dict(channel=0.9, state=0.75), zero=dict(channel=0, state=0)),
    "counts": dict(freeze=dict(channel=27, state=2), zero=dict(channel=0, state=0)),
    "half_to_even": dict(freeze=dict(channel=0.953125, state=0.625), zero=dict(channel=0, state=0)),  # 30.5 -> 30, 2.5 -> 2
    "all_states": dict(freeze=dict(channel=0.75, state=0.0), zero=dict(channel=0, state=0)),
    "with_zeroed": dict(freeze=dict(channel=0.75, state=1), zero=dict(channel=3, state=1)),
}
TRAINED_SELECTIONS = ("ratios", "with_zeroed")


def count(setting, size):
    """A float is a ratio of `size`, rounded half to even; an int is a count."""
    return setting if isinstance(setting, int) else int(round(setting * size))


def split(importance, freeze, zero):
    """Indices by descending importance: (train, freeze, zero)."""
    n_freeze, n_zero = count(freeze, len(importance)), count(zero, len(importance))
    n_train = len(importance) - n_freeze - n_zero
    assert n_train >= 0
    order = torch.argsort(importance, descending=True, stable=True).tolist()
    ranked = importance[order]
    assert bool((ranked[:-1] > ranked[1:]).all()), "a tie would make the selection ambiguous"
    return order[:n_train], order[n_train : n_train + n_freeze], order[n_train + n_freeze :]


def select(G, freeze, zero):
    """What trains and what is zeroed in one layer, from its warm-up delta G (E, N)."""
    channels, frozen, zeroed = split((G * G).sum(1), freeze["channel"], zero["channel"])
    states, zeroed_states = {}, {}
    for c in channels:
        train, _, none = split(G[c] * G[c], freeze["state"], zero["state"])
        states[c], zeroed_states[c] = train, none
    return dict(channels=channels, states=states, zeroed_channels=zeroed, zeroed_states=zeroed_states)


def adam(leaves):
    return torch.optim.AdamW(list(leaves.values()), lr=LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)


def train(leaves, params_of, stream, config, steps):
    """`steps` updates of {name: leaf}; params_of builds the model's parameters from them. Mean loss before each update, and
    the gradients of the first step."""
    optimizer, losses, first = adam(leaves), [], {}
    for _ in range(steps):
        total, labels = mamba_reference.loss_sum(params_of(leaves), stream, config)
        optimizer.zero_grad()
        (total / labels).backward()
        first = first or {k: v.grad.clone() for k, v in leaves.items()}
        optimizer.step()
        losses.append(float((total / labels).detach()))
    return losses, first


def mixer(i):
    return f"backbone.layers.{i}.mixer."


def lora_leaves(seed, base, layers):
    """LoRA tensors of out_proj under their PEFT keys: A uniform in +-1/sqrt(in), as kaiming_uniform(a = sqrt 5) gives; B zero."""
    out = {}
    for i in range(layers):
        rows, cols = base[mixer(i) + "out_proj.weight"].shape
        a = cases.generator(seed, f"sdt.lora.{i}").uniform(-1, 1, (RANK, cols)) / cols**0.5
        out[f"base_model.model.{mixer(i)}out_proj.lora_A.weight"] = torch.from_numpy(a).float()
        out[f"base_model.model.{mixer(i)}out_proj.lora_B.weight"] = torch.zeros(rows, RANK)
    return out


def add_lora(p, leaves, layers):
    for i in range(layers):
        key = f"base_model.model.{mixer(i)}out_proj"
        name = mixer(i) + "out_proj.weight"
        p[name] = p[name] + leaves[key + ".lora_B.weight"] @ leaves[key + ".lora_A.weight"]


def warm_up(base, lora, stream, config, dtype):
    """The dense deltas G of A_log after the warm-up, one (E, N) per layer, and the warm-up's losses."""
    layers = config["num_hidden_layers"]
    leaves = {f"G.{i}": torch.zeros_like(base[mixer(i) + "A_log"]) for i in range(layers)} | lora
    leaves = {k: v.to(dtype, copy=True).requires_grad_() for k, v in leaves.items()}

    def params_of(leaf):
        p = dict(base)
        for i in range(layers):
            p[mixer(i) + "A_log"] = base[mixer(i) + "A_log"] + leaf[f"G.{i}"]
        add_lora(p, leaf, layers)
        return p

    losses, _ = train(leaves, params_of, stream, config, WARMUP_STEPS)
    return [leaves[f"G.{i}"].detach() for i in range(layers)], losses


def sparse_train(base, lora, picks, stream, config, dtype):
    """The sparse phase. Returns losses, first gradients, final leaves and the parameters that the model ends with.

    Leaves: `A_log.I` one value per chosen entry, channels in order of importance and their states likewise; `B.I`, `C.I` of
    shape (N, chosen channels).
    """
    layers, R, N = config["num_hidden_layers"], config["time_step_rank"], config["state_size"]
    index = []
    for pick in picks:
        rows = [c for c in pick["channels"] for _ in pick["states"][c]]
        cols = [s for c in pick["channels"] for s in pick["states"][c]]
        index.append((torch.tensor(rows), torch.tensor(cols), torch.tensor(pick["channels"])))
    leaves = dict(lora)
    for i, (rows, _, channels) in enumerate(index):
        leaves |= {f"A_log.{i}": torch.zeros(len(rows)), f"B.{i}": torch.zeros(N, len(channels)),
                   f"C.{i}": torch.zeros(N, len(channels))}
    leaves = {k: v.to(dtype, copy=True).requires_grad_() for k, v in leaves.items()}

    def params_of(leaf):
        p = dict(base)
        for i, (rows, cols, channels) in enumerate(index):
            a_log = base[mixer(i) + "A_log"].clone()
            a_log[picks[i]["zeroed_channels"]] = ZEROED_A_LOG
            for c, states in picks[i]["zeroed_states"].items():
                a_log[c, states] = ZEROED_A_LOG
            p[mixer(i) + "A_log"] = a_log.index_put((rows, cols), leaf[f"A_log.{i}"], accumulate=True)
            delta = torch.zeros_like(base[mixer(i) + "x_proj.weight"])
            row = torch.arange(N)
            delta = delta.index_put(((R + row)[:, None], channels[None, :]), leaf[f"B.{i}"])
            delta = delta.index_put(((R + N + row)[:, None], channels[None, :]), leaf[f"C.{i}"])
            p[mixer(i) + "x_proj.weight"] = base[mixer(i) + "x_proj.weight"] + delta
        add_lora(p, leaf, layers)
        return p

    losses, first = train(leaves, params_of, stream, config, SPARSE_STEPS)
    final = {k: v.detach() for k, v in leaves.items()}
    return losses, first, final, params_of(final)


def make(case="tied_small"):
    torch.set_num_threads(1)
    directory = GOLDEN / "mamba" / case / "sdt"
    shutil.rmtree(directory, ignore_errors=True)
    seed = cases.CONFIGS[case]["seed"]
    config = json.loads((directory.parent / "golden.json").read_text())["config"]
    weights = safetensors.torch.load_file(directory.parent / "checkpoint" / "model.safetensors")
    stored = safetensors.torch.load_file(directory.parent / "golden.safetensors")
    stream = cases.Stream(stored["tokens"], stored["targets"], stored["offsets"])
    lora = lora_leaves(seed, weights, config["num_hidden_layers"])
    save_tensors(directory / "lora_init.safetensors", lora)

    runs = {}
    for dtype in (torch.float32, torch.float64):
        base = {k: v.to(dtype) for k, v in weights.items()}
        G, warm_losses = warm_up(base, lora, stream, config, dtype)
        picks = {n: [select(g, **s) for g in G] for n, s in SELECTIONS.items()}
        sparse = {n: sparse_train(base, lora, picks[n], stream, config, dtype) for n in TRAINED_SELECTIONS}
        runs[dtype] = (G, warm_losses, picks, sparse)

    G32, warm32, picks32, sparse32 = runs[torch.float32]
    G, warm, picks, sparse = runs[torch.float64]
    importance_error = max(max_abs(a * a, b * b) for a, b in zip(G32, G))
    gap = smallest_gap(G)
    assert picks == picks32 and min(gap.values()) > 20 * importance_error, "the selection must not hang on rounding"
    tensors = {f"warmup.G.{i}": g for i, g in enumerate(G)}
    info = {}
    for name, (losses, first, final, params) in sparse.items():
        tensors |= {f"{name}.grad0.{k}": v for k, v in first.items()}
        tensors |= {f"{name}.final.{k}": v for k, v in final.items()}
        for i in range(config["num_hidden_layers"]):
            for part in ("A_log", "x_proj.weight"):
                tensors[f"{name}.params.{mixer(i)}{part}"] = params[mixer(i) + part]
        info[name] = {
            "losses_f64": losses, "losses_f32": sparse32[name][0],
            "trainable": {"A_log": sum(v.numel() for k, v in final.items() if k.startswith("A_log.")),
                          "x_proj": sum(v.numel() for k, v in final.items() if k[:2] in ("B.", "C.")),
                          "lora": sum(v.numel() for k, v in final.items() if "lora_" in k)},
            "f32_max_abs_error": {k: max_abs(sparse32[name][2][k], v) for k, v in final.items()}}
        print(f"  {case}/sdt/{name}: {losses[0]:.5f} -> {losses[-1]:.5f}, trainable {info[name]['trainable']}")
    save_tensors(directory / "golden.safetensors", tensors)
    write_case_json(directory, {
        "case": f"{case}/sdt", "seed": seed, "base": "../checkpoint", "stream": "../golden.safetensors",
        "arrays": "sdt_reference.py in float64, rounded to float32",
        "settings": {"lora": {"r": RANK, "lora_alpha": RANK, "target": "out_proj"}, "lr": LR, "betas": [0.9, 0.999],
                     "eps": 1e-8, "weight_decay": 0.0, "schedule": "constant", "clip": None, "warmup_steps": WARMUP_STEPS,
                     "sparse_steps": SPARSE_STEPS, "zeroed_A_log": ZEROED_A_LOG},
        "warmup": {"losses_f64": warm, "losses_f32": warm32, "f32_max_abs_error_of_G": [max_abs(a, b) for a, b in zip(G32, G)],
                   "smallest_gap_of_importance": gap, "f32_error_of_importance": importance_error, "largest_G": max(float(g.abs().max()) for g in G)},
        "selections": {n: {"settings": SELECTIONS[n], "layers": [as_json(p) for p in picks[n]]} for n in SELECTIONS},
        "sparse": info})


def smallest_gap(G):
    """The smallest difference of neighbouring importances, of channels and of states within a channel: how far rounding may
    move G before an order changes."""
    gap = lambda v: float((v.sort(descending=True).values.diff()).abs().min())
    return {"channels": min(gap((g * g).sum(1)) for g in G), "states": min(gap(row) for g in G for row in g * g)}


def as_json(pick):
    """Channels in order of importance; states as a list of lists in the same order."""
    return {"channels": pick["channels"], "states": [pick["states"][c] for c in pick["channels"]],
            "zeroed_channels": pick["zeroed_channels"],
            "zeroed_states": [pick["zeroed_states"][c] for c in pick["channels"]]}


if __name__ == "__main__":
    print(common.versions())
    make()
