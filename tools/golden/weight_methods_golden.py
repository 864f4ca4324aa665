"""Ten training losses of methods in the weights that no peer has: ProDiaL, S-LoRA behind two tasks, XGBLoRA in four rounds, DiffoRA
while it selects and behind it.

Written from their equations as effective weights, in torch, float64. Tensors have the keys of Molt's adapters; where all of them
train, `init` and `final` are what an adapter holds before and after.

usage: weight_methods_golden.py   writes tests/golden/mamba/CASE/weight_methods
"""

import shutil

import common

if __name__ == "__main__":
    common.fix_hash_seed()

import torch

import cases
import lora_golden
import mamba_reference
from common import GOLDEN, save_tensors, write_case_json

STEPS, LR = 10, 1e-2
RANK, ALPHA, BLOCK = 2, 3, 4
EARLIER = [1, 3]  # ranks of S-LoRA's earlier directions
ROUNDS = ["0", "0 1", "1", "0 1"]
TARGETS = ["in_proj", "out_proj"]


def key(i, module, tensor):
    return f"base_model.model.backbone.layers.{i}.mixer.{module}.{tensor}"


def weight(i, module):
    return f"backbone.layers.{i}.mixer.{module}.weight"


def nearest_divisor(n, wanted):
    divisors = [d for d in range(1, n + 1) if n % d == 0]
    return min(divisors, key=lambda d: (abs(d - wanted), d))


def prodial(base, t, i, module):
    """W x becomes s * (W D x) + (alpha / r) B A x with D x in blocks: x'[c] = sum_k x[k] (1 + R)[k, c]."""
    R = t[key(i, module, "prodial_R")]
    D = torch.block_diag(*(R + torch.eye(R.shape[1], dtype=R.dtype)))
    low_rank = t[key(i, module, "prodial_B")] @ t[key(i, module, "prodial_A")]
    return t[key(i, module, "prodial_s")] * (base[weight(i, module)] @ D.T) + ALPHA / RANK * low_rank


def slora(base, t, i, module):
    """Earlier directions, each times its own length, beside a new pair."""
    lengths = t[key(i, module, "slora_magnitude")][:, 0].repeat_interleave(torch.tensor(EARLIER))
    earlier = (t[key(i, module, "slora_B")] * lengths) @ t[key(i, module, "slora_A")]
    own = t[key(i, module, "lora_B.weight")] @ t[key(i, module, "lora_A.weight")]
    return base[weight(i, module)] + earlier + ALPHA / RANK * own


def rounds_of(i):
    return [k for k, layers in enumerate(ROUNDS) if str(i) in layers.split()]


def xgblora(base, t, i, module, now):
    """Pairs of the rounds so far. Those before the present one are constants, those behind it are not there."""
    W = base[weight(i, module)]
    for k in rounds_of(i):
        if k > now:
            break
        A, B = t[key(i, module, f"A.{k}")], t[key(i, module, f"B.{k}")]
        W = W + ALPHA / RANK * ((B @ A) if k == now else (B @ A).detach())
    return W


OWN = {"in_proj": 1, "out_proj": 0}  # DiffoRA: the layer whose module has a pair of its own; the others of its kind share one


def diffora_select(base, t, i, module):
    """A pair with a weight in front."""
    pair = t[key(i, module, "diffora_B")] @ t[key(i, module, "diffora_A")]
    return base[weight(i, module)] + ALPHA / RANK * torch.sigmoid(2 * t[key(i, module, "diffora_weight")]) * pair


def diffora_name(i, module):
    """Where the pair of a module is filed: a shared one at the first module that has it."""
    own = i == OWN[module]
    return (i if own else min(j for j in (0, 1) if j != OWN[module])), "diffora_own" if own else "diffora_shared"


def diffora(base, t, i, module):
    at, name = diffora_name(i, module)
    return base[weight(i, module)] + ALPHA / RANK * t[key(at, module, name + "_B")] @ t[key(at, module, name + "_A")]


def rest(name, leaves, step):
    """What does not train in this step loses its gradient: DiffoRA's pairs and weights take turns."""
    for k, v in leaves.items():
        if name == "diffora_select" and k.endswith("diffora_weight") == (step % 2 == 0):
            v.grad = None


def runs(config, layers):
    """{name: (methods as a recipe names them, {key: shape}, keys that stay as they are)}."""
    D, E = config["hidden_size"], config["intermediate_size"]
    sizes = {"in_proj": (2 * E, D), "out_proj": (D, E)}
    every = lambda shapes: {key(i, m, n): s for i in layers for m in TARGETS for n, s in shapes(*sizes[m], i).items()}

    def prodial_shapes(O, I, _):
        k = nearest_divisor(I, BLOCK)
        return {"prodial_R": (I // k, k, k), "prodial_s": (O, 1), "prodial_A": (RANK, I), "prodial_B": (O, RANK)}

    slora_shapes = lambda O, I, _: {"lora_A.weight": (RANK, I), "lora_B.weight": (O, RANK), "slora_A": (sum(EARLIER), I),
                                    "slora_B": (O, sum(EARLIER)), "slora_magnitude": (len(EARLIER), 1)}
    xgb_shapes = lambda O, I, i: {f"{n}.{k}": s for k in rounds_of(i) for n, s in (("A", (RANK, I)), ("B", (O, RANK)))}
    select_shapes = lambda O, I, _: {"diffora_A": (RANK, I), "diffora_B": (O, RANK), "diffora_weight": (1,)}
    diffora_shapes = lambda O, I, i: {f"{n}_{part}": s for m in TARGETS for at, n in [diffora_name(i, m)]
                                      if sizes[m] == (O, I) and at == i for part, s in (("A", (RANK, I)), ("B", (O, RANK)))}
    choice = {"method": "diffora", "keep": 1, "warmup_steps": 5}
    common_options = {"r": RANK, "lora_alpha": ALPHA, "target_modules": TARGETS}
    return {
        "prodial": ([{"method": "prodial", "block_size": BLOCK} | common_options], every(prodial_shapes)),
        "slora": ([{"method": "slora"} | common_options], every(slora_shapes)),
        "xgblora": ([{"method": "xgblora", "rounds": len(ROUNDS), "round_layers": ROUNDS} | common_options], every(xgb_shapes)),
        "diffora_select": ([choice | common_options], every(select_shapes)),
        "diffora": ([choice | common_options], every(diffora_shapes)),
    }


FORMS = {"prodial": prodial, "slora": slora, "xgblora": xgblora, "diffora_select": diffora_select, "diffora": diffora}


def as_stored(name, tensors, layers):
    """Tensors by the keys of an adapter: XGBLoRA's pairs are stacked there, S-LoRA says how long its directions are."""
    if name == "slora":
        return tensors | {key(i, m, "slora_ranks"): torch.tensor(EARLIER) for i in layers for m in TARGETS}
    if name != "xgblora":
        return tensors
    out = {}
    for i in layers:
        for m in TARGETS:
            if rounds_of(i):
                out[key(i, m, "lora_A.weight")] = torch.cat([tensors[key(i, m, f"A.{k}")] for k in rounds_of(i)])
                out[key(i, m, "lora_B.weight")] = torch.cat([tensors[key(i, m, f"B.{k}")] for k in rounds_of(i)], dim=1)
    return out


def make_all(case, model, stream):
    config = cases.config_dict(model.config)
    layers = range(config["num_hidden_layers"])
    seed = cases.CONFIGS[case]["seed"]
    base = lora_golden.base_params(model, torch.float64)
    for name, (methods, shapes) in runs(config, layers).items():
        directory = GOLDEN / "mamba" / case / "weight_methods" / name
        shutil.rmtree(directory, ignore_errors=True)
        init = {k: cases.normal(seed, f"{name}.{k}", shape, 0.3) for k, shape in shapes.items()}
        for k in init:
            if k.endswith("prodial_s"):
                init[k] += 1
        leaves = {k: v.double().requires_grad_(not k.endswith(("slora_A", "slora_B"))) for k, v in init.items()}
        optimizer = torch.optim.AdamW([v for v in leaves.values() if v.requires_grad], lr=LR, weight_decay=0.0)
        losses, grads = [], {}
        for step in range(STEPS):
            now = min(len(ROUNDS) - 1, step * len(ROUNDS) // STEPS)
            p = dict(base)
            for i in layers:
                for m in TARGETS:
                    form = FORMS[name]
                    p[weight(i, m)] = form(base, leaves, i, m, now) if name == "xgblora" else form(base, leaves, i, m)
            total, count = mamba_reference.loss_sum(p, stream, config)
            optimizer.zero_grad()
            (total / count).backward()
            if step == 0 and name != "xgblora":
                grads = {f"grad0.{k}": v.grad.clone() for k, v in leaves.items() if v.grad is not None}
            rest(name, leaves, step)
            optimizer.step()
            losses.append(float((total / count).detach()))
        assert losses[-1] < losses[0], losses
        final = {k: v.detach() for k, v in leaves.items()}
        save_tensors(directory / "init.safetensors", as_stored(name, init, layers))
        save_tensors(directory / "golden.safetensors",
                     grads | {f"final.{k}": v for k, v in as_stored(name, final, layers).items()})
        write_case_json(directory, {
            "case": f"{case}/weight_methods/{name}", "seed": seed, "base": "../../checkpoint",
            "stream": "../../golden.safetensors", "methods": methods,
            "settings": {"lr": LR, "weight_decay": 0.0, "steps": STEPS},
            "arrays": "init: first values; grad0.KEY: gradient of the mean loss at the first step; final.KEY: after ten steps",
            "losses_f64": losses})
        print(f"  {case}/weight_methods/{name}: {losses[0]:.5f} -> {losses[-1]:.5f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in ("tied_small", "untied_odd"):
        made = cases.make_model(name)
        make_all(name, made, cases.make_stream(cases.CONFIGS[name]["seed"], cases.CONFIGS[name]["vocab_size"]))
