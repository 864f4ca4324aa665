"""Decoding as transformers does it on the tiny Mambas: tests/golden/decode/golden.json.

Greedy with a repetition penalty by generate(), and beam search with stop tokens, length penalties and a repetition penalty by the
class BeamSearchScorer, which published results rest on. Version 5 has other code in its place that stops a little earlier, so the
class is taken from a version 4 wheel (pip download --no-deps transformers==4.46.3). The checkpoints are those of
tests/golden/mamba. The reference runs in float64; a result is kept only if float32 finds the same tokens.

usage: make_decode_golden.py WHEEL
"""

import copy
import sys
import types
import zipfile

import common

common.fix_hash_seed()

import torch
import transformers.utils
from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor

import cases
from common import GOLDEN, peer_in_float64, to_float64, versions, write_json

SEARCHES = [
    dict(num_beams=1, repetition_penalty=1.3, max_new_tokens=16),
    dict(num_beams=5, max_new_tokens=12),
    dict(num_beams=5, max_new_tokens=12, stops=1),
    dict(num_beams=3, max_new_tokens=20, stops=1, length_penalty=0.0),
    dict(num_beams=4, max_new_tokens=9, stops=2, length_penalty=2.0),
    dict(num_beams=2, max_new_tokens=10, stops=1, repetition_penalty=1.2),
]
PROMPTS = 8


def scorer_class(wheel):
    """BeamSearchScorer from a wheel, without installing it beside the version we have."""
    for name in ("transformers4", "transformers4.generation"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = []
    sys.modules["transformers4.utils"] = transformers.utils
    with zipfile.ZipFile(wheel) as archive:
        for part in ("beam_constraints", "beam_search"):
            module = types.ModuleType(f"transformers4.generation.{part}")
            module.__package__ = "transformers4.generation"
            sys.modules[module.__name__] = module
            exec(compile(archive.read(f"transformers/generation/{part}.py"), f"{part}.py", "exec"), module.__dict__)
    return sys.modules["transformers4.generation.beam_search"].BeamSearchScorer


def greedy(model, prompt, search):
    settings = {k: v for k, v in search.items() if k != "stops"}
    out = model.generate(prompt[None], attention_mask=torch.ones_like(prompt[None]), do_sample=False, use_cache=False,
                         pad_token_id=0, eos_token_id=None, **settings)
    return out[0, len(prompt):].tolist(), None


def beams(scorer_class, model, prompt, stops, search):
    """The loop of transformers 4's _beam_search for one prompt, without a cache. New ids (with the stop token) and score."""
    count, limit = search["num_beams"], len(prompt) + search["max_new_tokens"]
    scorer = scorer_class(batch_size=1, num_beams=count, device=torch.device("cpu"),
                          length_penalty=search.get("length_penalty", 1.0), do_early_stopping=False)
    penalty = search.get("repetition_penalty", 1.0)
    processors = LogitsProcessorList([RepetitionPenaltyLogitsProcessor(penalty)] if penalty != 1 else [])
    ids = prompt[None].repeat(count, 1)
    scores = torch.tensor([0.0] + [-1e9] * (count - 1), dtype=model.dtype)
    eos = torch.tensor(stops) if stops else None
    while True:
        logits = model(ids, use_cache=False).logits[:, -1]
        total = processors(ids, torch.log_softmax(logits, -1)) + scores[:, None]
        vocab = total.shape[-1]
        best, index = torch.topk(total.view(1, -1), max(2, 1 + len(stops)) * count, dim=1, largest=True, sorted=True)
        beam, token = torch.div(index, vocab, rounding_mode="floor"), index % vocab
        step = scorer.process(ids, best, token, beam, pad_token_id=0, eos_token_id=eos, decoder_prompt_len=len(prompt))
        scores = step["next_beam_scores"]
        ids = torch.cat([ids[step["next_beam_indices"]], step["next_beam_tokens"][:, None]], -1)
        if scorer.is_done or ids.shape[1] >= limit:
            break
    out = scorer.finalize(ids, scores, token, beam, pad_token_id=0, eos_token_id=eos, max_length=limit,
                          decoder_prompt_len=len(prompt))
    new = out["sequences"][0, len(prompt):].tolist()
    end = next((i for i, t in enumerate(new) if t in stops), len(new))
    return new[:end + 1], float(out["sequence_scores"][0])


def main(wheel):
    scorer = scorer_class(wheel)

    def run(model, prompt, stops, search):
        with torch.no_grad():
            return greedy(model, prompt, search) if search["num_beams"] == 1 else beams(scorer, model, prompt, stops, search)

    results, dropped = [], 0
    for case in cases.CONFIGS:
        seed = cases.CONFIGS[case]["seed"]
        model = cases.make_model(case)
        vocab = model.config.vocab_size
        wide = to_float64(copy.deepcopy(model))
        draw = cases.generator(seed, "decode")
        for number, search in enumerate(SEARCHES):
            for _ in range(PROMPTS):
                prompt = torch.from_numpy(draw.integers(0, vocab, int(draw.integers(1, 9))))
                # Stop tokens that the model likes to say, or they would never be seen.
                with torch.no_grad():
                    liked = model(prompt[None], use_cache=False).logits[0, -1].topk(6).indices.tolist()
                stops = [int(i) for i in draw.choice(liked, search.get("stops", 0), replace=False)]
                narrow, _ = run(model, prompt, stops, search)
                with peer_in_float64():
                    new, score = run(wide, prompt, stops, search)
                if new != narrow:
                    dropped += 1
                    continue
                results.append({"checkpoint": case, "search": number, "prompt": prompt.tolist(), "stop_ids": stops,
                                "new_ids": new, "score": score})
    write_json(GOLDEN / "decode" / "golden.json",
               {"made_by": {**versions(), "beam_search": wheel.rsplit("/", 1)[-1]}, "dropped": dropped,
                "searches": SEARCHES, "results": results})
    ended = sum(bool(r["new_ids"]) and r["new_ids"][-1] in r["stop_ids"] for r in results)
    print(len(results), "results,", ended, "ended by a stop token,", dropped, "dropped")


if __name__ == "__main__":
    main(sys.argv[1])
