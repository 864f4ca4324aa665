"""Ten training losses: torch.optim.AdamW on LoRA tensors or on every parameter, the same batch at each step.

A step: loss = summed cross-entropy over the stream's labelled rows / their count, backward, optional clipping by the global
norm, AdamW. losses[k] is the loss before update k. Run twice, in float64 (the reference) and in float32 (the peer's own error).
The forward is transformers' on effective weights (see lora_golden); `train_honest` runs PEFT's own wrapped model instead.
"""

import copy
import shutil
import warnings

import torch
import torch.nn.functional as F
from peft.utils import get_peft_model_state_dict
from transformers import get_scheduler

import cases
import lora_golden
from common import max_abs, peer_in_float64, save_tensors, to_float64, write_case_json

STEPS = 10
PLAIN = dict(lr=1e-2, weight_decay=0.0, clip=None, schedule="constant", warmup=0)
RUNS = {
    # LoRA on three targets, nothing but AdamW.
    "train_lora": dict(r=4, lora_alpha=8, target_modules=lora_golden.ALL_THREE, **PLAIN),
    # The targets that PEFT really applies on Mamba, through PEFT's own forward.
    "train_honest": dict(r=4, lora_alpha=8, target_modules=["in_proj", "x_proj"], **PLAIN),
    # Decay of weights, clipping that bites, linear warm-up over 2 steps and decay to 0, as the HF Trainer does them.
    "train_recipe": dict(r=4, lora_alpha=4, target_modules=lora_golden.ALL_THREE, lr=2e-2, weight_decay=0.1, clip=0.5,
                         schedule="linear", warmup=2),
    # Every parameter.
    "train_full": dict(**PLAIN),
}
ADAM = dict(betas=(0.9, 0.999), eps=1e-8)


def train(leaves, loss_of, settings):
    """Trains {name: leaf} in place. Returns losses, learning rates and gradient norms before clipping, one per step."""
    optimizer = torch.optim.AdamW(list(leaves.values()), lr=settings["lr"], weight_decay=settings["weight_decay"], **ADAM)
    schedule = get_scheduler(settings["schedule"], optimizer, num_warmup_steps=settings["warmup"], num_training_steps=STEPS)
    losses, rates, norms = [], [], []
    for _ in range(STEPS):
        rates.append(schedule.get_last_lr()[0])
        loss = loss_of(leaves)
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(torch.linalg.vector_norm(torch.cat([p.grad.flatten().double() for p in leaves.values()]))))
        if settings["clip"] is not None:
            torch.nn.utils.clip_grad_norm_(list(leaves.values()), settings["clip"])
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach().double()))
    return losses, rates, norms


def run(case, name, model, stream, settings, dtype, init, scales):
    """One run in one float type. Returns (losses, rates, norms, final tensors)."""
    count = int((stream.targets != -100).sum())
    work = copy.deepcopy(model)
    if dtype == torch.float64:
        work = to_float64(work)
    if name == "train_honest":
        wrapped = lora_golden.peft_model(model, adapter_settings(settings))
        lora_golden.load_adapter_tensors(wrapped, init)
        wrapped = to_float64(wrapped) if dtype == torch.float64 else wrapped
        named = dict(wrapped.named_parameters())
        leaves = {k: named[lora_golden.peft_parameter(k)] for k in init}

        def loss_of(_):
            rows = torch.cat([wrapped(input_ids=ids[None], use_cache=False).logits[0] for ids, _ in stream.segments()])
            return F.cross_entropy(rows, stream.targets, ignore_index=-100, reduction="mean")
    elif name == "train_full":
        leaves = dict(work.named_parameters())
        loss_of = lambda p: lora_golden.peer_logits(work, tie(p), stream)[1] / count
    else:
        base = lora_golden.base_params(model, dtype)
        leaves = {k: v.to(dtype).requires_grad_() for k, v in copy.deepcopy(init).items()}
        loss_of = lambda p: lora_golden.peer_logits(work, lora_golden.effective(base, p, scales), stream)[1] / count
    result = train(leaves, loss_of, settings)
    return *result, {k: v.detach().clone() for k, v in leaves.items()}


def tie(params):
    return {"lm_head.weight": params["backbone.embeddings.weight"], **params}


def adapter_settings(settings):
    return {k: settings[k] for k in ("r", "lora_alpha", "target_modules")}


def make_run(directory, case, name, model, stream):
    settings = RUNS[name]
    seed = cases.CONFIGS[case]["seed"]
    init, scales = {}, {}
    if name != "train_full":
        torch.manual_seed(seed)
        wrapped = lora_golden.peft_model(model, adapter_settings(settings))  # A kaiming uniform, B zero: PEFT's start
        init = {k: v.clone() for k, v in get_peft_model_state_dict(wrapped).items()}
        scales = lora_golden.scales_of(wrapped)
        lora_golden.save_adapter(directory / "adapter_init", wrapped)

    losses32, _, _, final32 = run(case, name, model, stream, settings, torch.float32, init, scales)
    with peer_in_float64():
        losses, rates, norms, final = run(case, name, model, stream, settings, torch.float64, init, scales)
    assert losses[-1] < 0.95 * losses[0], losses
    save_tensors(directory / "golden.safetensors", {f"final.{k}": v for k, v in final.items()})
    write_case_json(directory, {
        "case": f"{case}/{name}", "seed": seed, "base": "../checkpoint", "stream": "../golden.safetensors",
        "settings": settings | {k: list(v) if isinstance(v, tuple) else v for k, v in ADAM.items()} | {"steps": STEPS},
        "arrays": "final.NAME after ten steps in float64, rounded to float32",
        "losses_f64": losses, "losses_f32": losses32, "learning_rates": rates, "gradient_norms_f64": norms,
        "f32_max_abs_error": {"loss": max(abs(a - b) for a, b in zip(losses, losses32)),
                              "final": {k: max_abs(final32[k], v) for k, v in final.items()}}})
    worst = max(max_abs(final32[k], v) for k, v in final.items())
    print(f"  {case}/{name}: {losses[0]:.5f} -> {losses[-1]:.5f}; f32 error: loss "
          f"{max(abs(a - b) for a, b in zip(losses, losses32)):.1e}, weights {worst:.1e}; norms {norms[0]:.2f}")


def make_all(mamba, case, model, stream):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in RUNS:
            shutil.rmtree(mamba / case / name, ignore_errors=True)
            make_run(mamba / case / name, case, name, model, stream)
