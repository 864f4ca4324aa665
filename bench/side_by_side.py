#!/usr/bin/env python3
"""Molt's speed and memory by precision, and the same step in transformers + peft, as the tables of docs/benchmarks.md.

    bench/side_by_side.py [--bench build/bench/train_bench] [--rounds 2] [--python VENV/bin/python] [--write FILE]

Everything is run --rounds times, one after the other, so that a machine that slows down for a while does so for all;
cells hold the lowest and the highest median. With --python, an interpreter that has torch, transformers, peft and mambapy
(bench/peers.py), peers run in every round as well, as they are and with the allocator tuned. With --write the tables go to
FILE, between lines `<!-- side by side -->` and `<!-- end -->`, instead of standard output. Needs nothing but Python.
"""
import argparse
import datetime
import json
import os
import platform
import subprocess
import sys

BEGIN, END = "<!-- side by side -->", "<!-- end -->"
PRECISIONS = ("f32", "bf16", "int8", "int8-int8")

# Name of a row, what train_bench is told, and the figures that are read from what it says.
SPEED, MEMORY = ("tokens/s", "tokens_per_second", ",.0f"), ("MiB", "peak_rss_mib", ",.0f")
ROWS = [
    ("LoRA", ["--method", "lora"], [SPEED, ("share of the parts alone", "share_of_parts", ".2f"), MEMORY,
                                    ("first step, s", "first_step_seconds", ".1f")]),
    ("LoRA, 10 % labelled", ["--method", "lora", "--labelled", "0.1", "--no-ceilings"], [SPEED]),
    ("LoRA on out_proj and x_proj", ["--method", "lora-out-x", "--no-ceilings"], [SPEED]),
    ("SDT + LoRA on out_proj", ["--method", "sdt", "--no-ceilings"], [SPEED]),
    ("reading a prompt", ["--method", "prompt", "--no-ceilings"], [SPEED, MEMORY]),
    ("decoding, one sequence", ["--method", "decode"], [SPEED, ("share of the reading speed", "share_of_reading", ".2f"),
                                                        MEMORY]),
    ("decoding, 16 sequences", ["--method", "decode", "--batch", "16", "--no-ceilings"], [SPEED, MEMORY]),
]
STEPS = {"decode": "40"}

# Without this, glibc maps every large temporary of torch anew.
TUNED = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=17179869184:glibc.malloc.trim_threshold=17179869184"


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bench", default="build/bench/train_bench")
    parser.add_argument("--shape", default="mamba-130m")
    parser.add_argument("--segment", default="512")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--steps", default="6", help="of training and reading; decoding takes 40")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--python", help="interpreter with torch, transformers, peft and mambapy, for peers")
    parser.add_argument("--ways", default="mambapy,autocast", help="of bench/peers.py; compile takes many minutes")
    parser.add_argument("--write", help="file whose tables are replaced")
    return parser.parse_args()


def split_at_tables(path):
    """What stands before and behind the tables in a file."""
    with open(path) as file:
        whole = file.read()
    if whole.count(BEGIN) != 1 or END not in whole.split(BEGIN)[1]:
        raise SystemExit(f"{path}: has no single place between lines {BEGIN} and {END}")
    before, rest = whole.split(BEGIN)
    return before + BEGIN + "\n", "\n" + END + rest.split(END, 1)[1]


def bench(options, precision, words):
    """What train_bench says of one row."""
    steps = STEPS.get(words[words.index("--method") + 1], options.steps)
    done = subprocess.run(
        [options.bench, "--shape", options.shape, "--segment", options.segment, "--threads", options.threads, "--steps",
         steps, "--precision", precision, "--json"] + words, capture_output=True, text=True, timeout=3600)
    if done.returncode:
        raise SystemExit(f"{options.bench}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def peers(options, tuned):
    """Lines of bench/peers.py, one for each way."""
    environment = dict(os.environ, **({"GLIBC_TUNABLES": TUNED} if tuned else {}))
    done = subprocess.run(
        [sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers.py"), "--python", options.python,
         "--only", options.ways, "--segment", options.segment, "--threads", options.threads],
        capture_output=True, text=True, env=environment)
    return [json.loads(line) for line in done.stdout.splitlines()]


def span(values, form):
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} – {high}"


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def own_table(found, precisions):
    rows = []
    for name, _, figures in ROWS:
        for what, key, form in figures:
            cells = [span([r[key] for r in found[name, p]], form) if key in found[name, p][0] else "" for p in precisions]
            rows.append([f"{name}: {what}"] + cells)
    one, many = "decoding, one sequence", "decoding, 16 sequences"
    times = [[b[SPEED[1]] / a[SPEED[1]] for a, b in zip(found[one, p], found[many, p])] for p in precisions]
    rows.append(["16 sequences over one"] + [span(t, ".1f") for t in times])
    all_of, tenth = "LoRA", "LoRA, 10 % labelled"
    times = [[b[SPEED[1]] / a[SPEED[1]] for a, b in zip(found[all_of, p], found[tenth, p])] for p in precisions]
    rows.append(["10 % labelled over all"] + [span(t, ".2f") for t in times])
    return table(["what"] + list(precisions), rows)


def peer_table(lines, found):
    """`lines`: by round and tuning."""
    rows = []
    for tuned in (False, True):
        for i, first in enumerate(lines[0, tuned]):
            runs = [of[i] for (_, t), of in sorted(lines.items()) if t == tuned]
            name = first["way"] + (", allocator tuned" if tuned else "")
            failed = [run["error"] for run in runs if "error" in run]
            if failed:
                rows.append([name, failed[0], "", ""])
                continue
            ours = found.get(("LoRA", first["precision"]))
            ratios = [a[SPEED[1]] / b["tokens_per_second"] for a, b in zip(ours, runs)] if ours else []
            rows.append([name, span([r["tokens_per_second"] for r in runs], ".0f"),
                         span([r["peak_rss_mib"] / 1024 for r in runs], ".1f"),
                         span(ratios, ".1f") + " times" if ratios else ""])
    made_with = next((line for of in lines.values() for line in of if "torch" in line), {})
    words = ", ".join(f"{name} {made_with[name]}" for name in ("transformers", "peft", "torch") if name in made_with)
    return table([f"way ({words})", "tokens/s", "GiB", "Molt, same precision"], rows)


def heading(options):
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    processor = platform.processor() or platform.machine()
    with open("/proc/cpuinfo") as file:
        processor = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), processor)
    return (f"{datetime.date.today()}, commit {commit}, {processor}, {options.shape}, segments of {options.segment} tokens, "
            f"{options.threads} threads, {options.rounds} rounds: lowest and highest median.")


def main():
    options = parse()
    precisions = [p for p in options.precisions.split(",") if p]
    if not os.access(options.bench, os.X_OK):
        raise SystemExit(f"{options.bench}: not there; make bench builds it")
    if options.write:
        split_at_tables(options.write)  # before an hour has gone into them
    found, lines = {}, {}
    for i in range(options.rounds):
        for name, words, _ in ROWS:
            for precision in precisions:
                print(f"round {i + 1}: {name}, {precision}", file=sys.stderr, flush=True)
                found.setdefault((name, precision), []).append(bench(options, precision, words))
        for tuned in (False, True) if options.python else ():
            print(f"round {i + 1}: peers{', allocator tuned' if tuned else ''}", file=sys.stderr, flush=True)
            lines[i, tuned] = peers(options, tuned)
    text = [heading(options), ""] + own_table(found, precisions)
    if lines:
        text += [""] + peer_table(lines, found)
    if not options.write:
        return print("\n".join(text))
    before, behind = split_at_tables(options.write)
    with open(options.write, "w") as file:
        file.write(before + "\n".join(text) + behind)


if __name__ == "__main__":
    main()
