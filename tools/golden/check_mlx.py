"""Loads an adapter in mlx-lm's form on a checkpoint in mlx-lm and compares its logits with those `molt logits` wrote. Run by
hand, to see that mlx-lm reads what Molt writes.

usage: check_mlx.py CHECKPOINT ADAPTER LOGITS [--tolerance 1e-4]
LOGITS: the safetensors file of `molt logits` (tokens, offsets, logits), made in f32. Needs mlx (on Linux mlx[cpu]) and mlx-lm,
in a venv of their own. Exit status 1 when something differs.
"""

import argparse
import importlib.metadata
import sys

import mlx.core as mx
import mlx.utils
import numpy as np
import safetensors.numpy
from mlx_lm.tuner.utils import load_adapters
from mlx_lm.utils import load_model
from pathlib import Path


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("checkpoint")
    p.add_argument("adapter")
    p.add_argument("logits")
    p.add_argument("--tolerance", type=float, default=1e-4, help="largest difference allowed, relative to the largest logit")
    args = p.parse_args()
    print({name: importlib.metadata.version(name) for name in ("mlx", "mlx-lm")})
    mx.set_default_device(mx.cpu)
    stored = safetensors.numpy.load_file(args.logits)
    tokens, ours = stored["tokens"], stored["logits"]
    offsets = stored.get("offsets", np.array([0, len(tokens)]))
    model = load_model(Path(args.checkpoint))[0]
    model.set_dtype(mx.float32)
    if args.adapter != "none":
        before = mlx.utils.tree_flatten(model.parameters())
        model = load_adapters(model, args.adapter)
        print(f"{len(mlx.utils.tree_flatten(model.parameters())) - len(before)} tensors of the adapter")
    model.eval()
    peer = np.concatenate([
        np.array(model(mx.array([[int(t) for t in tokens[a:b]]]))[0].astype(mx.float32)) for a, b in zip(offsets[:-1], offsets[1:])
    ])
    size, off = float(np.abs(peer).max()), float(np.abs(peer - ours).max())
    best = float((peer.argmax(-1) == ours.argmax(-1)).mean())
    fine = off <= args.tolerance * size
    print(f"mlx-lm: largest difference {off:.3e} of {size:.3g}, same best token on {best:.1%} of {len(tokens)} rows: "
          f"{'agrees' if fine else 'DIFFERS'}")
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
