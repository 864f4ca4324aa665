"""Makes tests/golden/mamba: what transformers and peft compute on tiny random Mambas. See tests/golden/README.md.

usage: make_mamba_golden.py [CASE ...]     (no case: all)
Everything is seeded and runs on one thread of the CPU; two runs with the same versions write the same bytes.
"""

import copy
import shutil
import sys

import common

common.fix_hash_seed()

import torch
import torch.nn.functional as F

import cases
import eva_reference
import lora_golden
import mamba_reference
import sdt_forms
import sdt_reference
import ssm_methods_golden
import training_golden
import weight_methods_golden
from common import GOLDEN, max_abs, peer_in_float64, save_tensors, to_float64, write_case_json

MAMBA = GOLDEN / "mamba"


def run_peer(model, stream):
    """Segment by segment through transformers: logits (T, V), summed loss, label count, {parameter: gradient}."""
    model = model.eval()
    model.requires_grad_(True)
    logits, loss, count = [], 0.0, 0
    for ids, targets in stream.segments():
        out = model(input_ids=ids[None], use_cache=False).logits[0]
        logits.append(out.detach())
        loss = loss + F.cross_entropy(out, targets, ignore_index=-100, reduction="sum")
        count += int((targets != -100).sum())
    names, params = zip(*model.named_parameters())
    grads = dict(zip(names, torch.autograd.grad(loss, params)))
    return torch.cat(logits), float(loss.detach().double()), count, grads


def decode(model, prompt, steps):
    """Greedy generation through generate(): new ids, and the smallest gap between the best and second-best logit."""
    out = model.generate(prompt[None], max_new_tokens=steps, do_sample=False, eos_token_id=None, pad_token_id=0,
                         use_cache=True, output_logits=True, return_dict_in_generate=True)
    gaps = [float((v := torch.topk(l[0], 2).values)[0] - v[1]) for l in out.logits]
    return out.sequences[0, len(prompt):].tolist(), min(gaps), torch.cat(out.logits)


def states_after(model, prompt):
    """Per layer the SSM state (E, N) and the last K inputs of the convolution (E, K), zeros on the left, after a prompt."""
    cache = model(input_ids=prompt[None], use_cache=True).cache_params
    return [(l.recurrent_states[0][0], l.conv_states[0][0]) for l in cache.layers]


def make_base(case):
    """Checkpoint, logits, full gradients, greedy decoding and states of one case. Returns (model, stream)."""
    seed = cases.CONFIGS[case]["seed"]
    directory = MAMBA / case
    model = cases.make_model(case)
    config = cases.config_dict(model.config)
    stream = cases.make_stream(seed, config["vocab_size"])
    model.save_pretrained(directory / "checkpoint")

    # The reference numbers: the peer in float64 from the float32 weights. The peer in float32 shows its own error.
    logits32, loss32, count, grads32 = run_peer(copy.deepcopy(model), stream)
    with peer_in_float64():
        wide = to_float64(copy.deepcopy(model))
        logits, loss, _, grads = run_peer(wide, stream)

    # An independent Mamba must agree with the peer, or one of them is wrong.
    params = {n: p.detach().double() for n, p in model.named_parameters()}
    own = torch.cat([mamba_reference.forward(params, ids, config) for ids, _ in stream.segments()])
    assert max_abs(own, logits) < 1e-12, max_abs(own, logits)
    for name, grad in grads.items():
        assert grad.abs().max() > 1e-3, f"{case}: the gradient of {name} is too small to test anything"

    prompt = torch.from_numpy(cases.generator(seed, "prompt").integers(0, config["vocab_size"], 5))
    with torch.no_grad(), peer_in_float64():
        new_ids, gap, step_logits = decode(wide, prompt, 20)
        prompt_states = states_after(wide, prompt)
        short_states = states_after(wide, prompt[:2])
    with torch.no_grad():
        new_ids32, _, _ = decode(model, prompt, 20)
    assert new_ids == new_ids32 and gap > 1e-3, (gap, new_ids, new_ids32)

    tensors = {**stream.tensors(), "logits": logits, "decode.logits": step_logits}
    tensors |= {f"grad.{n}": g for n, g in grads.items()}
    for label, states in (("prompt", prompt_states), ("prompt2", short_states)):
        for i, (ssm, conv) in enumerate(states):
            tensors[f"{label}.{i}.ssm_state"] = ssm
            tensors[f"{label}.{i}.conv_state"] = conv
    save_tensors(directory / "golden.safetensors", tensors)
    write_case_json(directory, {
        "case": case,
        "seed": seed,
        "config": config,
        "parameters": sum(p.numel() for p in model.parameters()),
        "arrays": "the peer's code in float64 on the float32 weights, rounded to float32",
        "loss": {"sum_f64": loss, "sum_peer_f32": loss32, "labels": count},
        "peer_f32_max_abs_error": {
            "logits": max_abs(logits32, logits),
            "grads": {n: max_abs(grads32[n], g) for n, g in grads.items()},
        },
        "max_abs": {"logits": float(logits.abs().max()), "grads": {n: float(g.abs().max()) for n, g in grads.items()}},
        "decode": {"prompt": prompt.tolist(), "new_ids": new_ids, "smallest_top2_gap": gap},
    })
    print(f"{case}: loss {loss:.6f} over {count} labels; peer's f32 error: logits {max_abs(logits32, logits):.1e}")
    return model, stream


def main(argv):
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    print(common.versions())
    wanted = argv or list(cases.CONFIGS)
    for case in wanted:
        shutil.rmtree(MAMBA / case, ignore_errors=True)
        model, stream = make_base(case)
        if case != "no_conv_bias":
            lora_golden.make_all(MAMBA, case, model, stream)
            training_golden.make_all(MAMBA, case, model, stream)
            ssm_methods_golden.make_all(MAMBA, case, model, stream)
            weight_methods_golden.make_all(case, model, stream)
            sdt_forms.make_all(case, model, stream)
            eva_reference.make(case, model, stream)
        if case == "tied_small":
            sdt_reference.make(case)


if __name__ == "__main__":
    main(sys.argv[1:])
