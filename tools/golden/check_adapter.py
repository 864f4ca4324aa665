"""Loads an adapter directory (PEFT form) on a checkpoint in PEFT and compares its logits with a file. Run by hand, to see that
PEFT reads what Molt writes.

usage: check_adapter.py CHECKPOINT ADAPTER TOKENS [LOGITS] [--float64] [--tolerance 1e-4] [--lift-guard]
Checks that PEFT took every tensor of the file as it is, then compares the *merged* model: transformers' Mamba never applies an
adapter on dt_proj in its forward (it reads dt_proj.weight), so PEFT's unmerged logits are compared for information only.
An adapter on a tied embedding is judged unmerged instead: PEFT adapts the look-up only, but its merge changes the head as well.
So is a prompt, which PEFT cannot merge.
PEFT refuses out_proj and conv1d on Mamba; --lift-guard switches that check off. Exit status 1 when something differs.
"""

import sys
import warnings

import compare_logits
import common

import peft.tuners.tuners_utils as tuners_utils
import safetensors.torch
import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from transformers import AutoModelForCausalLM


def main():
    p = compare_logits.parser(__doc__)
    p.add_argument("adapter", help="directory with adapter_config.json and adapter_model.safetensors")
    p.add_argument("--lift-guard", action="store_true", help="let PEFT adapt out_proj and conv1d")
    args = compare_logits.add_common(p).parse_args()
    print(common.versions())
    if args.lift_guard:
        tuners_utils._check_lora_target_modules_mamba = lambda *a, **k: None

    base = AutoModelForCausalLM.from_pretrained(args.checkpoint, dtype=torch.float32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = PeftModel.from_pretrained(base, args.adapter)
        except ValueError as error:
            sys.exit(f"PEFT refuses: {error}")
        loaded = get_peft_model_state_dict(model, save_embedding_layers=False)
    for w in caught:
        print("warning:", str(w.message).splitlines()[0])

    stored = safetensors.torch.load_file(f"{args.adapter}/adapter_model.safetensors")
    good = True
    for key in sorted(stored.keys() | loaded.keys()):
        if key not in loaded or key not in stored:
            print(f"{key}: only in {'the file' if key in stored else 'the model'}")
            good = False
        elif not torch.equal(stored[key].float(), loaded[key].float()):
            print(f"{key}: the model holds other values than the file")
            good = False
    print(f"{len(stored)} tensors in the file, {'all taken as they are' if good else 'NOT all taken'}; "
          f"scales {sorted({m.scaling['default'] for m in model.modules() if hasattr(m, 'scaling')})}")

    segments = compare_logits.read_segments(args.tokens)
    prompt = model.peft_config["default"].is_prompt_learning
    unmerged = compare_logits.verdict("PEFT unmerged", compare_logits.run(model, segments, args.float64), args)
    judge_unmerged = prompt or base.config.tie_word_embeddings and any(".lora_embedding_" in key for key in stored)
    merged = not prompt and compare_logits.verdict(
        "PEFT merged", compare_logits.run(model.merge_and_unload(), segments, args.float64), args)
    print("judged by the", "unmerged" if judge_unmerged else "merged", "logits")
    good &= unmerged if judge_unmerged else merged
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
