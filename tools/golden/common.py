"""What the makers of golden files share: exact writing (same bits at each run), versions, checksums, and the peer in float64."""

import contextlib
import hashlib
import json
import os
import pathlib
import platform
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import numpy as np
import peft
import safetensors
import safetensors.torch
import torch
import transformers
import transformers.models.mamba.modeling_mamba as peer_mamba

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"


def fix_hash_seed():
    """Some messages of the peers print Python sets; run again under a fixed hash seed so that they are the same each time."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable] + sys.argv)


def versions():
    """Versions of everything whose numbers are stored."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "safetensors": safetensors.__version__,
        "numpy": np.__version__,
    }


def sha256(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def save_tensors(path, tensors):
    """Writes {name: tensor} as safetensors; float64 is rounded to float32 (the stored reference), the rest kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    out = {}
    for name in sorted(tensors):
        t = torch.as_tensor(tensors[name]).detach()
        out[name] = (t.float() if t.dtype == torch.float64 else t).contiguous().clone()
    safetensors.torch.save_file(out, str(path), metadata={"format": "pt"})


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, indent=1, ensure_ascii=False)
    path.write_text(_short_lists(text) + "\n", encoding="utf-8")


def _short_lists(text):
    """Puts lists of plain numbers on one line; json.dumps would use a line per number."""
    out, depth_line = [], None
    for line in text.split("\n"):
        if depth_line is None and line.rstrip().endswith("["):
            depth_line = [line]
        elif depth_line is not None:
            body = line.strip()
            if body in ("]", "],"):
                out.append(depth_line[0] + " ".join(b.strip() for b in depth_line[1:]) + body)
                depth_line = None
            elif body.endswith(("[", "{")) or body.startswith('"') and '":' in body:
                out.extend(depth_line)
                depth_line = [line] if body.endswith("[") else None
                if depth_line is None:
                    out.append(line)
            else:
                depth_line.append(line)
        else:
            out.append(line)
    if depth_line:
        out.extend(depth_line)
    return "\n".join(out)


def write_case_json(directory, value, name="golden.json"):
    """Writes a case's json with versions and the checksum of every other file of the directory (recursively)."""
    files = {
        str(p.relative_to(directory)): sha256(p)
        for p in sorted(directory.rglob("*"))
        if p.is_file() and p.name != "golden.json" and not _belongs_to_sub_case(p, directory)
    }
    write_json(directory / name, {"made_by": versions(), **value, "sha256": files})


def _belongs_to_sub_case(path, directory):
    """True for files below a folder that has a golden.json of its own."""
    for parent in path.parents:
        if parent == directory:
            return False
        if (parent / "golden.json").exists():
            return True
    return False


def max_abs(a, b):
    """Largest absolute difference, in float64."""
    return float((a.double() - b.double()).abs().max()) if a.numel() else 0.0


@contextlib.contextmanager
def peer_in_float64():
    """Runs transformers' own Mamba code wholly in float64.

    Its forward casts to float32 at many places (`A_log.float()`, the norm, the residual, the logits). Inside this context
    `Tensor.float` is a no-op and the norm does not cast, so a model moved to float64 with residual_in_fp32 off computes every
    step in float64. The peer's arithmetic is untouched otherwise.
    """

    def norm_forward(self, hidden_states):
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        return self.weight * (hidden_states * torch.rsqrt(variance + self.variance_epsilon))

    old_float, old_norm = torch.Tensor.float, peer_mamba.MambaRMSNorm.forward
    torch.Tensor.float = lambda self, *a, **k: self
    peer_mamba.MambaRMSNorm.forward = norm_forward
    try:
        yield
    finally:
        torch.Tensor.float, peer_mamba.MambaRMSNorm.forward = old_float, old_norm


def to_float64(model):
    """The same weights in float64, for use inside peer_in_float64()."""
    model = model.double()
    for module in model.modules():
        if isinstance(module, peer_mamba.MambaBlock):
            module.residual_in_fp32 = False
    return model
