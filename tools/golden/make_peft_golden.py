"""Makes tests/golden/peft: what PEFT's methods other than plain LoRA compute on the tiny Mambas of make_mamba_golden.py.

usage: make_peft_golden.py [NAME ...]     (no name: all)
Each case: an adapter with random values as PEFT saves it, PEFT's own logits with it, and ten steps of AdamW from it (all in
float64 from float32 weights). Only parts that transformers' Mamba really calls are targets: it never calls dt_proj or conv1d.
"""

import copy
import shutil
import sys
import warnings

import common

common.fix_hash_seed()

import peft
import torch
import torch.nn.functional as F
from peft import get_peft_model
from peft.tuners.boft import layer as boft_layer
from peft.utils import get_peft_model_state_dict

import cases
import lora_golden
from common import GOLDEN, max_abs, peer_in_float64, save_tensors, to_float64, write_case_json

STEPS = 10
IN_X_OUT = ["in_proj", "x_proj", "out_proj"]
# name -> (config class, settings, scale of the random values or None: around the initial ones)
METHODS = {
    "dora": ("LoraConfig", dict(r=2, lora_alpha=4, target_modules=["in_proj", "x_proj"], use_dora=True)),
    "dora_rs": ("LoraConfig", dict(r=3, lora_alpha=4, target_modules=["in_proj"], use_dora=True, use_rslora=True)),
    "pissa": ("LoraConfig", dict(r=3, lora_alpha=6, target_modules=["in_proj", "x_proj"], init_lora_weights="pissa")),
    "olora": ("LoraConfig", dict(r=3, lora_alpha=6, target_modules=["in_proj", "x_proj"], init_lora_weights="olora")),
    "ia3": ("IA3Config", dict(target_modules=IN_X_OUT, feedforward_modules=["out_proj"])),
    "ln_tuning": ("LNTuningConfig", dict(target_modules=["norm", "norm_f"])),
    "vera": ("VeraConfig", dict(r=5, target_modules=IN_X_OUT, projection_prng_key=7)),
    "loha": ("LoHaConfig", dict(r=2, alpha=3, target_modules=IN_X_OUT)),
    "lokr": ("LoKrConfig", dict(r=2, alpha=3, target_modules=IN_X_OUT)),
    "lokr_both": ("LoKrConfig", dict(r=1, alpha=3, target_modules=IN_X_OUT, decompose_both=True)),
    "lokr_factor": ("LoKrConfig", dict(r=2, alpha=3, target_modules=IN_X_OUT, decompose_factor=2)),
    "oft": ("OFTConfig", dict(oft_block_size=4, target_modules=IN_X_OUT)),
    "oft_exact": ("OFTConfig", dict(r=2, oft_block_size=0, target_modules=["in_proj"], use_cayley_neumann=False)),
    "oft_shared": ("OFTConfig", dict(oft_block_size=2, target_modules=["in_proj"], block_share=True,
                                     num_cayley_neumann_terms=3)),
    "boft": ("BOFTConfig", dict(boft_block_size=0, boft_block_num=2, target_modules=IN_X_OUT)),
    "boft_butterfly": ("BOFTConfig", dict(boft_block_size=2, boft_n_butterfly_factor=3, target_modules=IN_X_OUT)),
    "miss": ("MissConfig", dict(r=3, target_modules=IN_X_OUT)),
    "adalora": ("AdaLoraConfig", dict(init_r=3, target_r=1, tinit=2, tfinal=2, deltaT=2, total_step=STEPS, lora_alpha=5,
                                      target_modules=["in_proj", "x_proj"])),
    "trainable_tokens": ("TrainableTokensConfig", dict(token_indices=[3, 17, 5], target_modules=["embeddings"])),
    # PEFT asks for a number of heads whatever the model; nothing reads it.
    "prompt_tuning": ("PromptTuningConfig", dict(num_virtual_tokens=3, num_attention_heads=1)),
    "p_tuning": ("PromptEncoderConfig", dict(num_virtual_tokens=3, num_attention_heads=1, encoder_hidden_size=8)),
}
PROMPTS = ("prompt_tuning", "p_tuning")
# Ten inputs have no even number of blocks of even width.
ONLY_HERE = {("untied_odd", "boft_butterfly"): dict(boft_n_butterfly_factor=1)}


class BlockDiagonal:
    """What PEFT's CUDA extension does for BOFT, in torch: without it PEFT takes one butterfly factor whatever is asked."""

    @staticmethod
    def apply(blocks):
        return torch.stack([torch.block_diag(*factor) for factor in blocks])


boft_layer.get_fbd_cuda = lambda: True
boft_layer.FastBlockDiag = BlockDiagonal


def wrap(model, kind, settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_peft_model(copy.deepcopy(model), getattr(peft, kind)(task_type="CAUSAL_LM", **settings)).eval()


def shake(wrapped, seed, name):
    """Moves every trainable away from its initial value; prompts have none but torch's random numbers."""
    with torch.no_grad():
        for n, p in wrapped.named_parameters():
            if p.requires_grad and name in PROMPTS:
                p.copy_(cases.normal(seed, f"{name}.{n}", tuple(p.shape), 0.5))
            elif p.requires_grad:
                p.add_(cases.normal(seed, f"{name}.{n}", tuple(p.shape), 0.1))


def rows_of(model, stream):
    """Logits of the stream's rows: those of virtual tokens, which stand before them, are left out."""
    rows = [(model(input_ids=ids[None], use_cache=False).logits[0], len(ids)) for ids, _ in stream.segments()]
    return torch.cat([r[len(r) - length :] for r, length in rows])


def penalty(model, stream):
    """AdaLoRA's own, which it adds to the loss that the model computes."""
    ids, _ = max(stream.segments(), key=lambda s: len(s[0]))
    out = model(input_ids=ids[None], labels=ids[None], use_cache=False)
    plain = F.cross_entropy(out.logits[0, :-1], ids[1:])
    return out.loss - plain


def train(wrapped, name, stream):
    """Losses (without AdaLoRA's penalty) before each of ten updates."""
    leaves = [p for p in wrapped.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(leaves, lr=1e-2, weight_decay=0.0)
    losses = []
    for step in range(STEPS):
        loss = F.cross_entropy(rows_of(wrapped, stream), stream.targets, ignore_index=-100)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        (loss + penalty(wrapped, stream) if name == "adalora" else loss).backward()
        optimizer.step()
        if name == "adalora":
            wrapped.base_model.update_and_allocate(step)
    return losses


def make(case, name, model, stream):
    kind, settings = METHODS[name]
    settings = {**settings, **ONLY_HERE.get((case, name), {})}
    directory = GOLDEN / "peft" / case / name
    shutil.rmtree(directory, ignore_errors=True)
    wrapped = wrap(model, kind, settings)
    shake(wrapped, cases.CONFIGS[case]["seed"], name)
    lora_golden.save_adapter(directory / "adapter", wrapped)
    if name == "p_tuning":  # what is saved are rows that no network makes any more: read them back as PEFT does
        wrapped = peft.PeftModel.from_pretrained(copy.deepcopy(model), directory / "adapter", is_trainable=False).eval()
    count = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    with peer_in_float64():
        wide = to_float64(copy.deepcopy(wrapped))
        with torch.no_grad():
            logits, plain = rows_of(wide, stream), rows_of(to_float64(copy.deepcopy(model)), stream)
        losses = train(wide, name, stream) if count else []
    assert max_abs(logits, plain) > 1e-2, (name, max_abs(logits, plain))
    save_tensors(directory / "golden.safetensors", {"logits": logits})
    write_case_json(directory, {
        "case": f"{case}/{name}", "seed": cases.CONFIGS[case]["seed"], "settings": {"lr": 1e-2, **settings},
        "trainable": count, "losses_f64": losses})
    course = f"{losses[0]:.5f} -> {losses[-1]:.5f}" if losses else "not trained"
    print(f"  {case}/{name}: {count} trainable, change {max_abs(logits, plain):.2f}, {course}")


def main(argv):
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for case in ("tied_small", "untied_odd"):
        model = cases.make_model(case)
        stream = cases.make_stream(cases.CONFIGS[case]["seed"], model.config.vocab_size)
        for name in argv or METHODS:
            make(case, name, model, stream)


if __name__ == "__main__":
    main(sys.argv[1:])
