"""EVA (Paischer et al., 2024) in float64: the directions in which the inputs of each target vary most, and ten losses of LoRA from
there.

Inputs are what transformers' Mamba hands to its modules, caught by hooks, in rows that have a label, centred; directions are
the right singular vectors that numpy finds, with the sign that makes the largest entry positive. Training as in training_golden.py.

usage: eva_reference.py   writes tests/golden/mamba/CASE/eva
"""

import copy
import shutil

import common

if __name__ == "__main__":
    common.fix_hash_seed()

import numpy as np
import peft
import torch

import cases
import lora_golden
import training_golden
from common import GOLDEN, peer_in_float64, save_tensors, to_float64, write_case_json

RHO = 2.0
RANK, ALPHA, TARGETS = 3, 6, ("in_proj", "x_proj", "out_proj")
SETTINGS = dict(lr=1e-2, weight_decay=0.0, clip=None, schedule="constant", warmup=0)


def inputs_of(wide, stream):
    """{module path: its inputs in labelled rows (n, I)}."""
    rows, hooks = {}, []
    for path, module in wide.named_modules():
        if path.rsplit(".", 1)[-1] in TARGETS:
            hooks.append(module.register_forward_pre_hook(
                lambda _, args, path=path: rows.setdefault(path, []).append(args[0].detach()[0])))
    with torch.no_grad():
        for ids, targets in stream.segments():
            wide(input_ids=ids[None], use_cache=False)
    for hook in hooks:
        hook.remove()
    labelled = stream.targets != -100
    return {path: torch.cat(parts)[labelled].numpy() for path, parts in rows.items()}


def directions(inputs):
    """(rank, I), and all singular values relative to the largest."""
    _, sizes, vectors = np.linalg.svd(inputs - inputs.mean(0), full_matrices=False)
    signs = np.sign(np.take_along_axis(vectors, np.abs(vectors).argmax(1)[:, None], axis=1))
    return torch.from_numpy((vectors * signs)[:RANK].copy()), sizes / sizes[0]


def make_ranks(case, model, stream):
    """Which ranks PEFT gives its targets when it may move them (rho), by what it sees of the longest segment; in float32, as it
    takes a model's inputs, which is far from where the order of directions would change."""
    ids, targets = max(stream.segments(), key=lambda s: len(s[0]))
    wrapped = lora_golden.peft_model(model, dict(r=RANK, lora_alpha=ALPHA, target_modules=["in_proj", "x_proj"],
                                                 init_lora_weights="eva", eva_config=peft.EvaConfig(rho=RHO)))
    batch = dict(input_ids=ids[None], labels=targets[None])
    peft.initialize_lora_eva_weights(wrapped, [batch], show_progress_bar=False)
    state = {k.removeprefix("base_model.model."): v for k, v in wrapped.state_dict().items() if ".lora_A." in k}
    scales = lora_golden.scales_of(wrapped)
    directory = GOLDEN / "mamba" / case / "eva_rho"
    shutil.rmtree(directory, ignore_errors=True)
    save_tensors(directory / "golden.safetensors",
                 {f"init.{k.removesuffix('.lora_A.default.weight')}": v for k, v in state.items()})
    write_case_json(directory, {
        "case": f"{case}/eva_rho", "base": "../checkpoint", "tokens": ids.tolist(), "labels": targets.tolist(),
        "settings": {"r": RANK, "lora_alpha": ALPHA, "rho": RHO, "target_modules": ["in_proj", "x_proj"]},
        "ranks": {k.removesuffix(".lora_A.default.weight"): len(v) for k, v in state.items()}, "scales": scales})
    print(f"  {case}/eva_rho:", {k.split("layers.")[1].split(".lora")[0]: len(v) for k, v in state.items()}, scales)


def make(case, model, stream):
    directory = GOLDEN / "mamba" / case / "eva"
    shutil.rmtree(directory, ignore_errors=True)
    count = int((stream.targets != -100).sum())
    base = lora_golden.base_params(model, torch.float64)
    with peer_in_float64():
        wide = to_float64(copy.deepcopy(model))
        inputs = inputs_of(wide, stream)
        leaves, spectra = {}, {}
        for path, rows in sorted(inputs.items()):
            A, sizes = directions(rows)
            spectra[path] = sizes[: RANK + 1].tolist()
            leaves[f"base_model.model.{path}.lora_A.weight"] = A.clone()
            leaves[f"base_model.model.{path}.lora_B.weight"] = torch.zeros(len(base[path + ".weight"]), RANK, dtype=torch.float64)
        init = {k: v.clone() for k, v in leaves.items() if "lora_A" in k}
        leaves = {k: v.requires_grad_() for k, v in leaves.items()}
        scales = {path: ALPHA / RANK for path in inputs}
        loss_of = lambda p: lora_golden.peer_logits(wide, lora_golden.effective(base, p, scales), stream)[1] / count
        losses, _, _ = training_golden.train(leaves, loss_of, SETTINGS)
    gap = min(a - b for sizes in spectra.values() for a, b in zip(sizes, sizes[1:]))
    assert gap > 1e-3 and losses[-1] < losses[0], (gap, losses)
    save_tensors(directory / "golden.safetensors", {f"init.{k}": v for k, v in init.items()})
    write_case_json(directory, {
        "case": f"{case}/eva", "seed": cases.CONFIGS[case]["seed"], "base": "../checkpoint", "stream": "../golden.safetensors",
        "settings": SETTINGS | {"r": RANK, "lora_alpha": ALPHA, "target_modules": list(TARGETS), "steps": training_golden.STEPS},
        "arrays": "init.KEY: right singular vectors of the centred inputs", "singular_values": spectra, "losses_f64": losses})
    make_ranks(case, model, stream)
    print(f"  {case}/eva: {len(inputs)} targets, {losses[0]:.5f} -> {losses[-1]:.5f}, gap {gap:.1e}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in ("tied_small", "untied_odd"):
        made = cases.make_model(name)
        make(name, made, cases.make_stream(cases.CONFIGS[name]["seed"], cases.CONFIGS[name]["vocab_size"]))
