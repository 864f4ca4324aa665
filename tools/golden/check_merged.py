"""Loads a plain checkpoint directory with transformers and compares its logits with a file. Run by hand, to see that transformers
reads a merged model that Molt wrote.

usage: check_merged.py CHECKPOINT TOKENS [LOGITS] [--float64] [--tolerance 1e-4]
Fails as well when tensors of the checkpoint are missing, unused or of another shape. Exit status 1 when something differs.
"""

import sys

import compare_logits
import common

import torch
from transformers import AutoModelForCausalLM


def main():
    args = compare_logits.add_common(compare_logits.parser(__doc__)).parse_args()
    print(common.versions())
    model, info = AutoModelForCausalLM.from_pretrained(args.checkpoint, dtype=torch.float32, output_loading_info=True)
    good = True
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info.get(kind):
            print(f"{kind}: {sorted(map(str, info[kind]))}")
            good = False
    print(f"{type(model).__name__}, {sum(p.numel() for p in model.parameters())} parameters")
    segments = compare_logits.read_segments(args.tokens)
    good &= compare_logits.verdict("transformers", compare_logits.run(model, segments, args.float64), args)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
