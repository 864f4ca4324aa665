"""LoRA golden files: adapters in PEFT's form on the tiny Mambas, adapted and merged logits, gradients of every adapter tensor.

Reference numbers come from transformers' Mamba in float64 run on *effective* weights W + s B A (torch.func.functional_call), so
they are right whatever the peer's forward does with a wrapped module. PEFT's own forward and merge are run beside it and the
difference is written down: transformers multiplies by `dt_proj.weight` directly, so PEFT's adapter on dt_proj is never applied.
"""

import copy
import json
import shutil
import warnings

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict

import cases
from common import max_abs, peer_in_float64, save_tensors, to_float64, versions, write_case_json

PREFIX = "base_model.model."
ALL_THREE = ["in_proj", "x_proj", "dt_proj"]

# name -> LoraConfig settings. `hand`: PEFT refuses these targets; the adapter directory is written by hand.
ADAPTERS = {
    "lora_basic": dict(r=4, lora_alpha=8, target_modules=ALL_THREE),
    "lora_honest": dict(r=4, lora_alpha=8, target_modules=["in_proj", "x_proj"]),
    "lora_patterns": dict(r=4, lora_alpha=8, target_modules=ALL_THREE, use_rslora=True,
                          rank_pattern={"in_proj": 2, "layers.1.mixer.x_proj": 3},
                          alpha_pattern={"x_proj": 5, "layers.0.mixer.dt_proj": 3}),
    "lora_regex": dict(r=2, lora_alpha=3, target_modules=r".*layers\.1\.mixer\.(in_proj|x_proj)"),
    "lora_embeddings": dict(r=3, lora_alpha=6, target_modules=["embeddings", "in_proj"]),
    "lora_dora": dict(r=2, lora_alpha=4, target_modules=["in_proj", "x_proj"], use_dora=True),
    "lora_out_proj": dict(r=4, lora_alpha=8, target_modules=["out_proj", "x_proj"], hand=True),
}


def peer_logits(model, params, stream):
    """Logits (T, V) and summed loss of transformers' model with `params` in place of its own (tied weights stay as given)."""
    logits, loss = [], 0.0
    for ids, targets in stream.segments():
        out = torch.func.functional_call(model, params, kwargs=dict(input_ids=ids[None], use_cache=False), tie_weights=False)
        logits.append(out.logits[0])
        loss = loss + F.cross_entropy(out.logits[0], targets, ignore_index=-100, reduction="sum")
    return torch.cat(logits), loss


def base_params(model, dtype):
    """{name: weight} with lm_head spelt out, so that an adapter on a tied embedding does not touch the head (as in PEFT)."""
    params = {n: p.detach().to(dtype) for n, p in model.named_parameters()}
    params.setdefault("lm_head.weight", params["backbone.embeddings.weight"])
    return params


def effective(params, adapter, scales):
    """Base parameters with s B A added. adapter: {PEFT key: tensor}; scales: {module path: s}. DoRA: rows rescaled to the
    magnitude vector, the norm taken as a constant in the gradient (as PEFT does)."""
    out = dict(params)
    for module, scale in scales.items():
        key = PREFIX + module
        if key + ".lora_embedding_A" in adapter:
            delta = (adapter[key + ".lora_embedding_B"] @ adapter[key + ".lora_embedding_A"]).T
        else:
            delta = adapter[key + ".lora_B.weight"] @ adapter[key + ".lora_A.weight"]
        weight = params[module + ".weight"] + scale * delta
        if key + ".lora_magnitude_vector" in adapter:
            norm = weight.norm(dim=1).detach()
            weight = weight * (adapter[key + ".lora_magnitude_vector"] / norm)[:, None]
        out[module + ".weight"] = weight
    return out


def draw_adapter(seed, name, shapes, params):
    """Adapter tensors {key: tensor}, all non-zero, so large that the adapter changes the logits well above rounding. A DoRA
    magnitude starts as PEFT's (the row norms) times 1 + 0.2 N(0, 1)."""
    out = {}
    for key, shape in shapes.items():
        noise = cases.normal(seed, f"{name}.{key}", shape)
        if key.endswith("lora_magnitude_vector"):
            module = key.removeprefix(PREFIX).removesuffix(".lora_magnitude_vector")
            out[key] = params[module + ".weight"].float().norm(dim=1) * (1 + 0.2 * noise)
        elif "_A" in key:
            out[key] = noise / shape[1] ** 0.5
        else:
            out[key] = 0.3 * noise
    return out


def peft_model(model, settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(copy.deepcopy(model), LoraConfig(task_type="CAUSAL_LM", **settings)).eval()


def save_adapter(directory, wrapped):
    """PEFT's own save_pretrained, without the model card."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped.save_pretrained(str(directory))
    (directory / "README.md").unlink(missing_ok=True)


def load_adapter_tensors(wrapped, tensors):
    """Copies {PEFT key: tensor} into the wrapped model's parameters."""
    named = dict(wrapped.named_parameters())
    with torch.no_grad():
        for key, value in tensors.items():
            named[peft_parameter(key)].copy_(value)


def peft_parameter(key):
    """The wrapped model's parameter name of a key in adapter_model.safetensors."""
    for tail in (".lora_embedding_A", ".lora_embedding_B"):
        if key.endswith(tail):
            return key + ".default"
    if key.endswith(".lora_magnitude_vector"):
        return key + ".default.weight"
    return key.removesuffix(".weight") + ".default.weight"


def scales_of(wrapped):
    """{module path in transformers' model: alpha / r or alpha / sqrt(r)}."""
    return {n.removeprefix(PREFIX): m.scaling["default"] for n, m in wrapped.named_modules() if hasattr(m, "scaling")}


def guard_message(model, target):
    """PEFT's refusal of a target module on Mamba, word for word."""
    try:
        peft_model(model, dict(r=4, lora_alpha=8, target_modules=[target]))
    except ValueError as error:
        return str(error)
    raise AssertionError(f"peft accepts {target} now: make these golden files through it")


def hand_adapter(model, settings):
    """What PEFT would hold for targets that it refuses: ({key: shape}, {module: scale}, adapter_config.json as a dict)."""
    shapes, scales = {}, {}
    r, alpha = settings["r"], settings["lora_alpha"]
    for name, module in model.named_modules():
        if name.rsplit(".", 1)[-1] in settings["target_modules"]:
            scales[name] = alpha / r
            shapes[f"{PREFIX}{name}.lora_A.weight"] = (r, module.in_features)
            shapes[f"{PREFIX}{name}.lora_B.weight"] = (module.out_features, r)
    config = LoraConfig(task_type="CAUSAL_LM", **settings).to_dict()
    config = {k: sorted(v) if isinstance(v, set) else getattr(v, "value", v) for k, v in config.items()}
    return shapes, scales, config | {"inference_mode": True}


def make_adapter(directory, case, name, model, stream):
    """Writes one adapter case below the base case's directory."""
    settings = dict(ADAPTERS[name])
    hand = settings.pop("hand", False)
    seed = cases.CONFIGS[case]["seed"]
    base = base_params(model, torch.float64)
    with peer_in_float64():
        wide = to_float64(copy.deepcopy(model))

    info = {}
    if hand:
        shapes, scales, config = hand_adapter(model, settings)
        info["peft_refuses"] = {t: guard_message(model, t) for t in ("out_proj", "conv1d")}
        tensors = draw_adapter(seed, name, shapes, base)
        save_tensors(directory / "adapter" / "adapter_model.safetensors", tensors)
        (directory / "adapter" / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    else:
        wrapped = peft_model(model, settings)
        scales = scales_of(wrapped)
        tensors = draw_adapter(seed, name, {k: tuple(v.shape) for k, v in get_peft_model_state_dict(wrapped).items()}, base)
        load_adapter_tensors(wrapped, tensors)
        save_adapter(directory / "adapter", wrapped)

    leaves = {k: v.double().requires_grad_() for k, v in tensors.items()}
    with peer_in_float64():
        weights = effective(base, leaves, scales)
        logits, loss = peer_logits(wide, weights, stream)
        plain, _ = peer_logits(wide, base, stream)
    grads = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values()))))
    assert max_abs(logits.detach(), plain) > 0.1
    changed = {f"{m}.weight" for m in scales}

    if not hand:
        info |= compare_with_peft(wrapped, stream, logits.detach(), grads, weights, changed, model.config.tie_word_embeddings)
    save_tensors(directory / "golden.safetensors", {
        "logits": logits, **{f"grad.{k}": g for k, g in grads.items()}, **{f"merged.{n}": weights[n] for n in sorted(changed)}})
    write_case_json(directory, {
        "case": f"{case}/{name}", "seed": seed, "base": "../checkpoint", "stream": "../golden.safetensors",
        "arrays": "transformers in float64 on effective weights W + s B A, rounded to float32",
        "scales": scales, "loss": {"sum_f64": float(loss.detach())},
        "adapter_parameters": sum(v.numel() for v in tensors.values()),
        "max_abs_change_of_logits": max_abs(logits.detach(), plain), **info})
    print(f"  {case}/{name}: loss {float(loss.detach()):.6f}", {k: v for k, v in info.items() if k != "peft_refuses"})


def compare_with_peft(wrapped, stream, logits, grads, weights, changed, tied):
    """Runs PEFT's own forward, backward and merge in float64 and says where they differ from the reference."""
    info = {}
    with peer_in_float64():
        wide = to_float64(copy.deepcopy(wrapped))
        keys = list(grads)
        named = dict(wide.named_parameters())
        params = [named[peft_parameter(k)].requires_grad_() for k in keys]
        out, loss = [], 0.0
        for ids, targets in stream.segments():
            row = wide(input_ids=ids[None], use_cache=False).logits[0]
            out.append(row)
            loss = loss + F.cross_entropy(row, targets, ignore_index=-100, reduction="sum")
        peft_grads = torch.autograd.grad(loss, params, allow_unused=True)
        unused = sorted({k.removeprefix(PREFIX).split(".lora_")[0] for k, g in zip(keys, peft_grads) if g is None})
        difference = max_abs(torch.cat(out).detach(), logits)
        info["peft_forward"] = {"max_abs_difference": difference, "never_applied": unused}
        if unused:
            assert all(m.endswith("dt_proj") for m in unused) and difference > 1e-3
        else:
            assert difference < 1e-12, difference
            worst = max(max_abs(g, grads[k]) for k, g in zip(keys, peft_grads))
            assert worst < 1e-11, worst

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            merged = wide.merge_and_unload()
        weights_after = dict(merged.named_parameters())
        worst = max(max_abs(weights_after[n].detach(), weights[n].detach()) for n in changed)
        assert worst < 1e-14, worst
        with torch.no_grad():
            rows = torch.cat([merged(input_ids=ids[None], use_cache=False).logits[0] for ids, _ in stream.segments()])
        difference = max_abs(rows, logits)
        info["peft_merged"] = {"max_abs_difference_of_logits": difference}
        if "backbone.embeddings.weight" in changed and tied:
            info["peft_merged"]["note"] = "PEFT merges into the tied matrix, which changes the head as well"
            assert difference > 1e-3
        else:
            assert difference < 1e-12, difference
    return info


def make_all(mamba, case, model, stream):
    for name in ADAPTERS:
        shutil.rmtree(mamba / case / name, ignore_errors=True)
        make_adapter(mamba / case / name, case, name, model, stream)
