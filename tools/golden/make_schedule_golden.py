"""Learning rates of transformers' schedules, step by step: tests/golden/schedules/golden.json.

usage: make_schedule_golden.py
"""

import common

common.fix_hash_seed()

import torch
from transformers import get_scheduler

from common import GOLDEN, versions, write_json

LR = 4e-3
CASES = [
    dict(name="constant", warmup=0, steps=6),
    dict(name="constant_with_warmup", warmup=3, steps=6),
    dict(name="linear", warmup=0, steps=10),
    dict(name="linear", warmup=3, steps=10),
    dict(name="cosine", warmup=0, steps=10),
    dict(name="cosine", warmup=4, steps=11),
    dict(name="cosine_with_min_lr", warmup=2, steps=9, extra={"min_lr_rate": 0.1}),
    dict(name="polynomial", warmup=2, steps=9, extra={"power": 2.0, "lr_end": 1e-4}),
    dict(name="warmup_stable_decay", warmup=2, steps=10,
         extra={"num_decay_steps": 4, "decay_type": "linear", "min_lr_ratio": 0.1}),
]


def main():
    out = []
    for case in CASES:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
        schedule = get_scheduler(case["name"], optimizer, num_warmup_steps=case["warmup"], num_training_steps=case["steps"],
                                 scheduler_specific_kwargs=case.get("extra", {}))
        rates = []
        for _ in range(case["steps"] + 1):  # the last one is the rate after the end
            rates.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
        out.append({**case, "lr": LR, "rates": rates})
    write_json(GOLDEN / "schedules" / "golden.json", {"made_by": versions(), "schedules": out})
    print(versions(), len(out), "schedules")


if __name__ == "__main__":
    main()
