#!/usr/bin/env python3
"""What a step of each method costs beside LoRA on in_proj, at the shape of a real model: a table in Markdown.

    bench/method_costs.py [--bench build/bench/train_bench] [--shape mamba-130m] [--steps 5] [--only LoRA,SDT]

Each method is run between two runs of the reference, and its time divided by their mean, so that a machine that slows
down for a while does so for both. With --cpu processor time is compared, for a machine that others use too. Needs nothing
but Python.
"""
import argparse
import json
import subprocess

REFERENCE = "{lora: {target_modules: [in_proj]}}"
METHODS = [
    ("LoRA on in_proj", REFERENCE),
    ("LoRA on out_proj", "{lora: {target_modules: [out_proj]}}"),
    ("LoRA on in_proj, x_proj, out_proj", "{lora: {target_modules: [in_proj, x_proj, out_proj]}}"),
    ("LoRA on every part of the mixer", "{lora: {target_modules: [in_proj, x_proj, dt_proj, out_proj]}}"),
    ("RoLoRA", "{lora: {target_modules: [in_proj], alternate: 10}}"),
    ("PiSSA on in_proj", "{lora: {target_modules: [in_proj], init_lora_weights: pissa}}"),
    ("DoRA on in_proj", "{lora: {target_modules: [in_proj], use_dora: true}}"),
    ("AdaLoRA on in_proj", "{adalora: {target_modules: [in_proj]}}"),
    ("XGBLoRA", "{xgblora: {}}"),
    ("DiffoRA", "{diffora: {}}"),
    ("VeRA on in_proj", "{vera: {target_modules: [in_proj]}}"),
    ("LoHa on in_proj, r 4", "{loha: {r: 4, target_modules: [in_proj]}}"),
    ("LoKr on in_proj", "{lokr: {target_modules: [in_proj]}}"),
    ("OFT on in_proj", "{oft: {target_modules: [in_proj]}}"),
    ("BOFT on in_proj", "{boft: {target_modules: [in_proj], boft_block_size: 8}}"),
    ("ProDiaL on in_proj", "{prodial: {target_modules: [in_proj]}}"),
    ("MiSS on in_proj", "{miss: {target_modules: [in_proj]}}"),
    ("IA3", "{ia3: {}}"),
    ("trainable tokens, 2", "{trainable_tokens: {token_indices: [5, 17]}}"),
    ("BitFit", "{bitfit: {}}"),
    ("norms", "{ln_tuning: {}}"),
    ("A_log whole", "{full: {train: [A_log]}}"),
    ("residual A, D", "{residual: {}}"),
    ("prompt tuning, 16 rows", "{prompt_tuning: {num_virtual_tokens: 16}}"),
    ("prefix tuning, 4 rows", "{prefix_tuning: {num_virtual_tokens: 4}}"),
    ("initial state", "{initial_state: {}}"),
    ("state offset, h", "{state_offset: {offset: h}}"),
    ("state offset, y", "{state_offset: {offset: y}}"),
    ("additional scan, 8 states", "{additional_scan: {extra_states: 8}}"),
    ("SDT, 1 % of channels", "{sdt: {}}"),
    ("SDT-P, 10 % of channels pruned", "{sdt: {freeze_channels: 0.89, prune_channels: 0.1}}"),
    ("SDT+, 1 % of channels", "{sdt: {projections: [out_proj, 'in_proj:x', 'in_proj:z']}}"),
    ("SDT + LoRA on out_proj", "{sdt: {}, lora: {target_modules: [out_proj]}}"),
    ("LoRA on out_proj and x_proj", "{lora: {target_modules: [out_proj, x_proj]}}"),
    ("full", "{full: {}}"),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bench", default="build/bench/train_bench")
    parser.add_argument("--shape", default="mamba-130m")
    parser.add_argument("--segment", default="512")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--steps", default="5")
    parser.add_argument("--cpu", action="store_true", help="processor time instead of the clock's")
    parser.add_argument("--only", default="", help="methods whose name contains one of these words")
    options = parser.parse_args()

    def run(method):
        done = subprocess.run(
            [options.bench, "--shape", options.shape, "--segment", options.segment, "--precision", options.precision,
             "--threads", options.threads, "--steps", options.steps, "--no-ceilings", "--json", "--method", method],
            capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise SystemExit(f"{method}: {done.stderr.strip()}")
        result = json.loads(done.stdout)
        time = result["cpu_ms_per_token"] if options.cpu else 1e3 / result["tokens_per_second"]
        return time, result["peak_rss_mib"], result["trainable"]

    words = [word for word in options.only.split(",") if word]
    before = run(REFERENCE)
    print("| method | trainable | time per step | peak memory | peak memory, MiB |")
    print("| --- | --- | --- | --- | --- |")
    for name, method in METHODS:
        if words and not any(word in name for word in words):
            continue
        took, peak, count = run(method)
        after = run(REFERENCE)
        time = 2 * took / (before[0] + after[0])
        print(f"| {name} | {count:,} | {time:.2f} | {peak / after[1]:.2f} | {peak:.0f} |", flush=True)
        before = after


if __name__ == "__main__":
    main()
