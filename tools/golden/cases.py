"""The tiny random models and token streams of the golden files. Everything is drawn from numpy's PCG64 by (seed, name)."""

import dataclasses
import zlib

import numpy as np
import torch
from transformers import MambaConfig, MambaForCausalLM

CONFIGS = {
    # The shape of the released models in small: tied head, no projection bias, time-step rank ceil(hidden / 16).
    "tied_small": dict(seed=101, vocab_size=61, hidden_size=16, num_hidden_layers=2, state_size=4, conv_kernel=4, expand=2),
    # Nothing is a multiple of anything: odd widths, biases on in_proj and out_proj, an untied head, three layers.
    "untied_odd": dict(seed=202, vocab_size=37, hidden_size=10, num_hidden_layers=3, state_size=5, conv_kernel=3, expand=3,
                       time_step_rank=3, use_bias=True, tie_word_embeddings=False),
    # No bias on the convolution, a large epsilon, one layer, conv width 2.
    "no_conv_bias": dict(seed=303, vocab_size=29, hidden_size=8, num_hidden_layers=1, state_size=3, conv_kernel=2, expand=2,
                         time_step_rank=2, use_conv_bias=False, layer_norm_epsilon=1e-3, residual_in_fp32=False),
}

# (length, number of leading positions without a label) of each segment; the last one has no label at all.
SEGMENTS = [(1, 0), (2, 1), (3, 1), (17, 6), (40, 25), (4, 4)]


def generator(seed, name):
    """A generator that depends on the case's seed and a name only, so adding a tensor changes no other."""
    return np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))


def normal(seed, name, shape, scale=1.0):
    return torch.from_numpy(generator(seed, name).standard_normal(shape) * scale).float()


@dataclasses.dataclass
class Stream:
    """A flat stream of T tokens: `tokens` (T), `targets` (T, what the logits at that position should predict, -100 = no
    label), `offsets` (S+1, where segments begin and end)."""

    tokens: torch.Tensor
    targets: torch.Tensor
    offsets: torch.Tensor

    def segments(self):
        for begin, end in zip(self.offsets[:-1].tolist(), self.offsets[1:].tolist()):
            yield self.tokens[begin:end], self.targets[begin:end]

    def tensors(self):
        return {"tokens": self.tokens, "targets": self.targets, "offsets": self.offsets}


def make_stream(seed, vocab, name="stream", shape=SEGMENTS):
    """Random segments; targets are the next tokens (one more token than the length is drawn), a prefix is masked."""
    tokens, targets, offsets = [], [], [0]
    for i, (length, masked) in enumerate(shape):
        ids = generator(seed, f"{name}.{i}").integers(0, vocab, length + 1)
        tokens.append(ids[:-1])
        targets.append(np.concatenate([np.full(masked, -100), ids[1 + masked:]]))
        offsets.append(offsets[-1] + length)
    return Stream(*(torch.from_numpy(np.concatenate(a).astype(np.int64)) for a in (tokens, targets)),
                  torch.tensor(offsets, dtype=torch.int64))


def make_model(case):
    """A MambaForCausalLM of the case in float32, eval mode, every parameter non-trivial."""
    settings = dict(CONFIGS[case])
    seed = settings.pop("seed")
    settings.setdefault("tie_word_embeddings", True)
    config = MambaConfig(**settings, use_mambapy=False, use_associative_scan=False, use_cache=True)
    model = MambaForCausalLM(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(_weight(seed, name, tuple(p.shape), config))
    return model


def _weight(seed, name, shape, config):
    draw = lambda scale: normal(seed, name, shape, scale)
    last = name.removesuffix(".weight").rsplit(".", 1)[-1]
    if last == "A_log":
        return torch.log(torch.arange(1, config.state_size + 1).float()).expand(shape) + draw(0.3)
    if last == "D":
        return 1 + draw(0.3)
    if name.endswith("dt_proj.bias"):  # inverse softplus of time steps in 0.05 .. 0.8: memory of one to twenty tokens
        dt = torch.from_numpy(0.05 * 16.0 ** generator(seed, name).random(shape))
        return (dt + torch.log(-torch.expm1(-dt))).float()
    if name.endswith(".bias"):
        return draw(0.2)
    if last in ("norm", "norm_f"):
        return 1 + draw(0.2)
    if last == "conv1d":
        return draw(0.5)
    if last in ("embeddings", "lm_head"):
        return draw(0.5)
    return draw(1.0 / np.sqrt(shape[1]))  # in_proj, x_proj, dt_proj, out_proj: unit gain


def config_dict(config):
    """The numbers of a MambaConfig that the reference needs."""
    names = ("vocab_size hidden_size intermediate_size num_hidden_layers state_size conv_kernel time_step_rank "
             "layer_norm_epsilon use_bias use_conv_bias tie_word_embeddings")
    return {n: getattr(config, n) for n in names.split()}
