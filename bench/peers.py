#!/usr/bin/env python3
"""The training step of train_bench in transformers + peft, for comparison: one JSON line per way of running it.

    bench/peers.py --python VENV/bin/python [--only mambapy,autocast] [--threads 2] [--steps 3] [--timeout 1800]

The work is that of `train_bench --shape mamba-130m --method lora`: a random Mamba of that shape, frozen, LoRA r = 8 on
in_proj, x_proj and out_proj, one segment, every token labelled; forward, loss, backward, AdamW. Ways:

    default    transformers as it is
    mambapy    use_mambapy: its parallel scan (package mambapy)
    autocast   mambapy under torch.autocast in bfloat16
    compile    torch.compile with use_associative_scan
    compile_autocast    the same under torch.autocast in bfloat16

Each runs in a process of its own under a time limit; one that fails or runs out of time is a line with "error". This
file needs nothing but Python; the interpreter given by --python needs torch, transformers and peft (pip install torch
transformers peft mambapy). peft refuses LoRA on out_proj of Mamba because its fused CUDA kernel reads the weight past
the module; on the CPU the module is called and the adapter acts, so the refusal is passed by.
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

WAYS = ("default", "mambapy", "autocast", "compile", "compile_autocast")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--python", default=sys.executable, help="interpreter that has torch, transformers and peft")
    parser.add_argument("--only", default=",".join(WAYS), help="which ways, of " + ", ".join(WAYS))
    parser.add_argument("--d-model", type=int, default=768)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--vocabulary", type=int, default=50280)
    parser.add_argument("--segment", type=int, default=512, help="tokens in a step")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=1, help="steps before those that count")
    parser.add_argument("--steps", type=int, default=3, help="steps that count; the median is reported")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for each way")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def build(way, options):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import MambaConfig, MambaForCausalLM

    if way in ("mambapy", "autocast"):
        import mambapy  # noqa: F401  without it transformers takes the default path and says nothing
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=options.vocabulary, hidden_size=options.d_model, num_hidden_layers=options.layers,
                         use_mambapy=way in ("mambapy", "autocast"), use_cache=False)
    compiled = way.startswith("compile")
    if compiled:
        config.use_associative_scan = True
    model = MambaForCausalLM(config)
    model_type, type(config).model_type = config.model_type, "passed by"
    targets = ["in_proj", "x_proj", "out_proj"]
    model = get_peft_model(model, LoraConfig(r=options.rank, lora_alpha=options.rank, target_modules=targets))
    type(config).model_type = model_type
    adapted = {name.split(".lora_")[0].split(".")[-1] for name, p in model.named_parameters() if p.requires_grad}
    assert adapted == set(targets), adapted
    return torch.compile(model) if compiled else model


def work(way, options):
    """One way in this process; returns what its line holds."""
    import peft
    import torch
    import transformers

    torch.set_num_threads(options.threads)
    model = build(way, options).train()
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-4)
    ids = torch.randint(0, options.vocabulary, (1, options.segment + 1))
    seconds, losses = [], []
    for _ in range(options.warmup + options.steps):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled="autocast" in way):
            logits = model(input_ids=ids[:, :-1]).logits
            loss = torch.nn.functional.cross_entropy(logits[0].float(), ids[0, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds[options.warmup:])
    return {
        "tokens_per_second": options.segment / median,
        "seconds_per_step": median,
        "first_step_seconds": seconds[0],
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "trainable_parameters": sum(p.numel() for p in trainable),
        "loss": losses[-1],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
    }


def launch(way, options):
    """Runs this file as a worker under the other interpreter."""
    command = [options.python, os.path.abspath(__file__), "--worker", way]
    for name in ("d_model", "layers", "vocabulary", "segment", "rank", "threads", "warmup", "steps"):
        command += ["--" + name.replace("_", "-"), str(getattr(options, name))]
    environment = dict(os.environ, OMP_NUM_THREADS=str(options.threads), TOKENIZERS_PARALLELISM="false",
                       HF_HUB_OFFLINE="1")
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=options.timeout, env=environment)
    except subprocess.TimeoutExpired:
        return {"error": "not done after %g s" % options.timeout}
    except OSError as error:
        return {"error": "%s: %s" % (options.python, error.strerror)}
    lines = ran.stdout.strip().split("\n")
    if ran.returncode == 0 and lines[-1].startswith("{"):
        return json.loads(lines[-1])
    said = [line for line in ran.stderr.strip().split("\n") if line.strip()]
    return {"error": said[-1] if said else "ended with code %d" % ran.returncode}


def main():
    options = parse()
    if options.worker:
        print(json.dumps(work(options.worker, options)), flush=True)
        return 0
    ways = [way for way in options.only.split(",") if way]
    for way in ways:
        if way not in WAYS:
            print("peers.py: no way is called '%s'; there is %s" % (way, ", ".join(WAYS)), file=sys.stderr)
            return 2
    failed = 0
    for way in ways:
        line = {"peer": "transformers+peft", "way": way, "precision": "bf16" if "autocast" in way else "f32",
                "d_model": options.d_model, "layers": options.layers, "segment": options.segment,
                "threads": options.threads, "steps": options.steps}
        line.update(launch(way, options))
        failed += "error" in line
        print(json.dumps(line), flush=True)
    return 1 if failed == len(ways) else 0


if __name__ == "__main__":
    sys.exit(main())
