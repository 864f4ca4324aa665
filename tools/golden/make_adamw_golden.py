"""Six updates by torch.optim.AdamW: tests/golden/adamw/golden.json.

usage: make_adamw_golden.py

Two parameter groups (with decay; without, at half the rate), rates that change from step to step, gradients of very different
sizes, one step at which a parameter has no gradient. Everything in float64; `values_f32` is torch's own run in float32.
"""

import common

common.fix_hash_seed()

import torch

from common import GOLDEN, versions, write_json

SEED = 20
ADAM = dict(betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1)
RATES = [0.0, 1e-2, 3e-2, 3e-2, 1e-2, 1e-3]
PARAMETERS = [dict(name="a", size=5, decay=True, lr_scale=1.0, skipped_step=None),
              dict(name="b", size=3, decay=False, lr_scale=0.5, skipped_step=2)]


def run(start, grads, dtype):
    leaves = [torch.tensor(v, dtype=dtype, requires_grad=True) for v in start]
    groups = [{"params": [leaf], "weight_decay": ADAM["weight_decay"] if p["decay"] else 0.0, "lr": 1.0}
              for leaf, p in zip(leaves, PARAMETERS)]
    optimizer = torch.optim.AdamW(groups, **ADAM, foreach=False)
    values = []
    for step, rate in enumerate(RATES):
        for group, leaf, grad, p in zip(optimizer.param_groups, leaves, grads, PARAMETERS):
            group["lr"] = rate * p["lr_scale"]
            leaf.grad = None if step == p["skipped_step"] else torch.tensor(grad[step], dtype=dtype)
        optimizer.step()
        values.append([leaf.tolist() for leaf in leaves])
    moments = [{k: optimizer.state[leaf][k].tolist() for k in ("exp_avg", "exp_avg_sq", "step")} for leaf in leaves]
    return values, moments


def main():
    torch.manual_seed(SEED)
    start = [torch.randn(p["size"]).tolist() for p in PARAMETERS]
    grads = [[(torch.randn(p["size"]) * 10.0 ** torch.arange(-6, -6 + 2 * p["size"], 2)).tolist() for _ in RATES]
             for p in PARAMETERS]
    values, moments = run(start, grads, torch.float64)
    values32, _ = run(start, grads, torch.float32)
    parameters = [p | {"start": start[i], "grads": grads[i], "values": [v[i] for v in values],
                       "values_f32": [v[i] for v in values32], "state": moments[i]} for i, p in enumerate(PARAMETERS)]
    write_json(GOLDEN / "adamw" / "golden.json", {
        "made_by": versions(), "seed": SEED, "adam": ADAM | {"betas": list(ADAM["betas"])}, "rates": RATES,
        "parameters": parameters})
    print(versions(), len(RATES), "steps")


if __name__ == "__main__":
    main()
