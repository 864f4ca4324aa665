"""Runs a GGUF file in llama.cpp and compares its logits with those `molt logits` wrote. Run by hand, to see that llama.cpp reads
what Molt writes.

usage: check_llama.py MODEL.gguf LOGITS [--lora ADAPTER.gguf] [--text TEXT] [--tolerance 1e-3]
LOGITS: the safetensors file of `molt logits` (tokens, offsets, logits). --text: the text those tokens are of; llama.cpp's own
tokens are then compared too. Needs llama-cpp-python (pip builds llama.cpp; in a venv of its own), numpy and safetensors. Exit
status 1 when something differs. Also reads the file with the `gguf` package where that is installed.
"""

import argparse
import ctypes
import sys

import llama_cpp
import numpy as np
import safetensors.numpy


def logits_of(model, tokens):
    model.reset()
    model.eval([int(t) for t in tokens])
    return np.array(model.scores[: len(tokens)])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("logits")
    p.add_argument("--lora")
    p.add_argument("--text")
    p.add_argument("--tolerance", type=float, default=1e-3, help="largest difference allowed, relative to the largest logit")
    args = p.parse_args()
    stored = safetensors.numpy.load_file(args.logits)
    tokens, ours = stored["tokens"], stored["logits"]
    offsets = stored.get("offsets", np.array([0, len(tokens)]))
    print("llama-cpp-python", llama_cpp.__version__, ctypes.c_char_p(llama_cpp.llama_print_system_info()).value.decode()[:100])
    try:
        import gguf

        reader = gguf.GGUFReader(args.model)
        print(f"gguf package: {len(reader.fields)} fields, {len(reader.tensors)} tensors")
    except ImportError:
        pass
    model = llama_cpp.Llama(args.model, n_ctx=max(64, int(np.diff(offsets).max()) + 8), n_threads=1, logits_all=True,
                            lora_path=args.lora, verbose=False)
    good = True
    if args.text is not None:
        theirs = model.tokenize(args.text.encode(), add_bos=False, special=True)
        same = list(theirs) == [int(t) for t in tokens]
        print("tokens of the text:", "the same" if same else f"DIFFER: {theirs} against {list(tokens)}")
        good &= same
    peer = np.concatenate([logits_of(model, tokens[a:b]) for a, b in zip(offsets[:-1], offsets[1:])])
    size = float(np.abs(peer).max())
    off = float(np.abs(peer - ours).max())
    best = float((peer.argmax(-1) == ours.argmax(-1)).mean())
    fine = off <= args.tolerance * size
    print(f"llama.cpp: largest difference {off:.3e} of {size:.3g}, same best token on {best:.1%} of {len(tokens)} rows: "
          f"{'agrees' if fine else 'DIFFERS'}")
    sys.exit(0 if good and fine else 1)


if __name__ == "__main__":
    main()
