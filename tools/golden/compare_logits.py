"""What check_adapter.py and check_merged.py share: token ids from the command line or a file, the peer's logits, the verdict."""

import argparse
import pathlib

import common  # sets the environment before transformers is used anywhere
import safetensors.torch
import torch


def parser(doc):
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("checkpoint", help="transformers checkpoint directory")
    return p


def add_common(p):
    p.add_argument("tokens", help="ids of one segment as 1,2,3 or a safetensors file with `tokens` and, optionally, `offsets`")
    p.add_argument("logits", nargs="?", help="safetensors file with `logits` (T, V) to compare with; without it, logits are printed")
    p.add_argument("--tolerance", type=float, default=1e-4, help="largest difference allowed, relative to the largest logit")
    p.add_argument("--float64", action="store_true", help="run the peer in float64")
    return p


def read_segments(text):
    if pathlib.Path(text).is_file():
        stored = safetensors.torch.load_file(text)
        tokens = stored["tokens"].long()
        offsets = stored.get("offsets", torch.tensor([0, len(tokens)])).tolist()
        return [tokens[a:b] for a, b in zip(offsets[:-1], offsets[1:])]
    return [torch.tensor([int(t) for t in text.split(",")])]


def run(model, segments, float64):
    """Logits (T, V) of every segment run alone; rows that a prompt puts in front are left out."""
    model = model.eval()

    def logits(ids):
        return model(input_ids=ids[None], use_cache=False).logits[0][-len(ids):]

    with torch.no_grad():
        if not float64:
            return torch.cat([logits(s) for s in segments])
        with common.peer_in_float64():
            model = common.to_float64(model)
            return torch.cat([logits(s) for s in segments])


def verdict(label, peer, args):
    """Prints the largest difference; True when it is small enough or there is nothing to compare with."""
    if args.logits is None:
        torch.set_printoptions(precision=6, linewidth=140)
        print(label, peer)
        return True
    ours = safetensors.torch.load_file(args.logits)["logits"]
    if tuple(ours.shape) != tuple(peer.shape):
        print(f"{label}: shapes differ, peer {tuple(peer.shape)}, file {tuple(ours.shape)}")
        return False
    difference, size = common.max_abs(ours, peer), float(peer.abs().max())
    same = float((ours.argmax(-1) == peer.argmax(-1)).double().mean())
    good = difference <= args.tolerance * size
    print(f"{label}: largest difference {difference:.3e} of {size:.3g}, same best token on {same:.1%} of rows: "
          f"{'agrees' if good else 'DIFFERS'}")
    return good
