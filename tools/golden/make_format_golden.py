"""Makes the files that readers are tested on: the weights of tied_small in other layouts (sharded safetensors, the original
state-spaces directory), and small safetensors and torch files with every dtype, some of them broken on purpose.

usage: make_format_golden.py
"""

import collections
import json
import os
import pathlib
import pickle
import re
import shutil
import struct
import zipfile

import common

common.fix_hash_seed()

import numpy as np
import safetensors.torch
import torch

import cases
import lora_golden
import mamba_reference
from common import GOLDEN, max_abs, peer_in_float64, save_tensors, to_float64, write_case_json, write_json

MAMBA = GOLDEN / "mamba"
BASE = "tied_small"
PAD_MULTIPLE = 8


def fresh(directory):
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def make_sharded(model):
    """transformers' own sharded save: model-0000i-of-0000n.safetensors and model.safetensors.index.json."""
    directory = fresh(MAMBA / "sharded")
    model.save_pretrained(directory / "checkpoint", max_shard_size="8KB")
    shards = len(list((directory / "checkpoint").glob("model-*.safetensors")))
    assert shards > 2
    write_case_json(directory, {"case": "sharded", "same_weights_as": f"../{BASE}/checkpoint", "shards": shards})


def original_state_dict(model):
    """The weights of the case under state-spaces' names, the embedding padded to a multiple of 8 rows as mamba_ssm does."""
    out = collections.OrderedDict()
    for name, p in model.named_parameters():
        w = p.detach().clone()
        if name == "backbone.embeddings.weight":
            rows = -(-w.shape[0] // PAD_MULTIPLE) * PAD_MULTIPLE
            w = torch.cat([w, cases.normal(cases.CONFIGS[BASE]["seed"], "padding rows", (rows - w.shape[0], w.shape[1]), 0.5)])
            name = "backbone.embedding.weight"
        out[name] = w
    return out


def module_metadata(state):
    """nn.Module.state_dict() hangs a `_metadata` attribute on its OrderedDict, which torch.save pickles along."""
    meta = collections.OrderedDict([("", {"version": 1})])
    for name in state:
        parts = name.split(".")[:-1]
        for i in range(len(parts)):
            meta.setdefault(".".join(parts[: i + 1]), {"version": 1})
    state._metadata = meta
    return state


def make_original(model, stream):
    """state-spaces' directory: config.json and pytorch_model.bin, in three dtypes and three ways of laying out storages."""
    root = fresh(MAMBA / "original")
    config = model.config
    original_config = {
        "d_model": config.hidden_size, "n_layer": config.num_hidden_layers, "vocab_size": config.vocab_size, "ssm_cfg": {},
        "rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True, "pad_vocab_size_multiple": PAD_MULTIPLE}
    for label, dtype in (("f32", torch.float32), ("f16", torch.float16), ("bf16", torch.bfloat16)):
        directory = root / label
        directory.mkdir()
        state = collections.OrderedDict((k, v.to(dtype)) for k, v in original_state_dict(model).items())
        values = {k: v.double() for k, v in state.items()}
        if label == "f32":
            state = module_metadata(state)
        if label == "bf16":  # strides and offsets: a transposed matrix, and tensors that are windows of one storage
            for name in list(state):
                if name.endswith("in_proj.weight"):
                    state[name] = state[name].t().contiguous().t()
                    assert not state[name].is_contiguous()
            names = [n for n in state if "x_proj" in n or n.endswith((".D", "norm.weight"))]
            pool = torch.cat([torch.zeros(3, dtype=dtype)] + [state[n].flatten() for n in names])
            at = 3
            for n in names:
                state[n] = pool[at : at + state[n].numel()].view(state[n].shape)
                at += state[n].numel()
        state["lm_head.weight"] = state["backbone.embedding.weight"]  # tied: one storage under two names
        torch.save(state, directory / "pytorch_model.bin")
        (directory / "config.json").write_text(json.dumps(original_config, indent=4) + "\n")

        back = torch.load(directory / "pytorch_model.bin", weights_only=True)
        assert all(torch.equal(back[k].double(), v) for k, v in values.items())
        renamed = {k.replace("backbone.embedding.", "backbone.embeddings."): v for k, v in values.items()}
        with torch.no_grad():
            settings = cases.config_dict(config)
            logits = torch.cat([mamba_reference.forward(renamed, ids, settings) for ids, _ in stream.segments()])
            if label == "f32":
                with peer_in_float64():
                    peer, _ = lora_golden.peer_logits(to_float64(model), lora_golden.base_params(model, torch.float64), stream)
                assert max_abs(logits[:, : config.vocab_size], peer) < 1e-12
        save_tensors(directory / "golden.safetensors", {"logits": logits})
        write_case_json(directory, {
            "case": f"original/{label}", "same_weights_as": f"../../{BASE}/checkpoint, rounded to {label}, 3 more rows of embedding",
            "stream": f"../../{BASE}/golden.safetensors", "arrays": "mamba_reference.py in float64 from the stored weights",
            "padded_vocab": list(logits.shape)[1],
            "strides": {k: list(v.stride()) for k, v in state.items() if not v.is_contiguous()}})


# Small tensors of every dtype that readers meet, with values that only survive exact reading.
def dtype_zoo():
    rng = np.random.Generator(np.random.PCG64(404))
    tiny = torch.tensor([0.0, -0.0, 1.0, -2.5, 3.4028235e38, 1.17549435e-38, 1e-45, float("inf"), -float("inf"), float("nan")])
    draw = lambda *shape: torch.from_numpy(rng.standard_normal(shape)).float()
    return {
        "f32": draw(2, 3), "f32.special": tiny, "f64": torch.from_numpy(rng.standard_normal(3)),
        "f16": draw(3, 2).half(), "f16.special": torch.tensor([0.0, -0.0, 65504.0, 6e-8, 6.1e-5, float("inf")]).half(),
        "bf16": draw(5).bfloat16(), "bf16.special": tiny.bfloat16(),
        "i64": torch.tensor([[-(2**63), -1, 0], [1, 2**40, 2**63 - 1]]), "i32": torch.tensor([-(2**31), 7, 2**31 - 1], dtype=torch.int32),
        "i8": torch.tensor([-128, 0, 127], dtype=torch.int8), "u8": torch.tensor([0, 7, 255], dtype=torch.uint8),
        "bool": torch.tensor([[True, False], [False, True]]),
        "scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3),
    }


def described(tensors):
    """{name: dtype, shape, bytes in hex (little endian, row-major), values where JSON can hold them}."""
    out = {}
    for name, t in tensors.items():
        t = t.detach().contiguous()
        raw = t.reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b""
        out[name] = {"dtype": str(t.dtype).removeprefix("torch."), "shape": list(t.shape), "hex": raw.hex()}
        if t.numel() == 0 or bool(torch.isfinite(t.double()).all()):
            out[name]["values"] = (t.double() if t.is_floating_point() else t).reshape(-1).tolist()
    return out


def make_safetensors():
    directory = fresh(GOLDEN / "safetensors")
    zoo = dtype_zoo()
    expected = {}
    for stem, tensors, metadata in (
        # One key of metadata: the writer puts several in random order.
        ("zoo", zoo, {"note": "every dtype; \u00fcnic\u00f6de and a \"quote\""}),
        ("no_metadata", {"a": zoo["f32"], "b": zoo["bf16"]}, None),
        ("no_tensors", {}, {"format": "pt"}),
    ):
        safetensors.torch.save_file(tensors, str(directory / f"{stem}.safetensors"), metadata=metadata)
        expected[f"{stem}.safetensors"] = {"metadata": metadata or {}, "tensors": described(tensors)}

    bad = directory / "bad"
    bad.mkdir()
    good = (directory / "no_metadata.safetensors").read_bytes()
    size = struct.unpack("<Q", good[:8])[0]
    header, body = json.loads(good[8 : 8 + size]), good[8 + size :]

    def write(name, header, body=body, length=None):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        (bad / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)

    def changed(**fields):
        return {**header, "a": {**header["a"], **fields}}

    begin, end = header["a"]["data_offsets"]
    (bad / "empty_file.safetensors").write_bytes(b"")
    (bad / "seven_bytes.safetensors").write_bytes(good[:7])
    (bad / "cut_in_header.safetensors").write_bytes(good[: 8 + size // 2])
    (bad / "cut_in_data.safetensors").write_bytes(good[:-1])
    write("header_length_huge", header, length=2**63 + 1)
    write("header_length_past_end", header, length=len(good))
    write("not_json", b"{\"a\": ")
    write("not_an_object", b"[1, 2]")
    write("not_utf8", b"{\"\xff\": 1}")
    write("trailing_bytes", header, body + b"\0\0\0\0")
    write("unknown_dtype", changed(dtype="F31"))
    write("shape_not_matching_size", changed(shape=[2, 4]))
    write("shape_negative", changed(shape=[-2, -3]))
    write("shape_overflow", changed(shape=[2**33, 2**33]))
    write("offsets_backward", changed(data_offsets=[end, begin]))
    write("offsets_past_end", changed(data_offsets=[begin + 1000, end + 1000]))
    write("offsets_huge", changed(data_offsets=[begin, 2**63]))
    write("offsets_overlap", {**header, "b": {**header["b"], "data_offsets": [begin, begin + 10]}}, body[: end])
    write("hole", changed(data_offsets=[begin + 4, end + 4]), body + b"\0\0\0\0")
    write("missing_shape", {**header, "a": {"dtype": "F32", "data_offsets": [begin, end]}})
    write("metadata_not_strings", {**header, "__metadata__": {"format": 3}})
    write("same_name_twice", json.dumps(header).encode()[:-1] + b", " + json.dumps({"a": header["a"]}).encode()[1:])
    refusals = {}
    for path in sorted(bad.iterdir()):
        try:
            safetensors.torch.load_file(str(path))
            refusals[f"bad/{path.name}"] = None
        except Exception as error:  # noqa: BLE001 - whatever the peer says is the record
            refusals[f"bad/{path.name}"] = f"{type(error).__name__}: {error}"
    write_case_json(directory, {"files": expected, "refused_by_safetensors": refusals}, "golden.json")


class Evil:
    """A pickle that calls a function when loaded; a reader must refuse it and never look the function up."""

    def __reduce__(self):
        return os.getcwd, ()


def make_torch_bin():
    directory = fresh(GOLDEN / "torch_bin")
    zoo = dtype_zoo()
    expected = {}

    def save(name, value, tensors, **kwargs):
        torch.save(value, directory / name, **kwargs)
        expected[name] = described(tensors)

    save("zoo.bin", zoo, zoo)
    torch.manual_seed(404)
    linear = torch.nn.Linear(3, 2)
    save("module.bin", linear.state_dict(), dict(linear.state_dict()))
    save("parameters.bin", {"w": linear.weight, "b": linear.bias},
         {"w": linear.weight, "b": linear.bias})
    save("nested.bin", {"model": {"w": zoo["f32"], "steps": [1, 2.5, None, True, "text"]}, "step": 12345678901234567890,
                        "tuple": (1, (2, 3))}, {"model.w": zoo["f32"]})
    pool = torch.arange(12, dtype=torch.float32)
    views = {"row": pool[4:8], "matrix": pool.view(3, 4), "transposed": pool.view(3, 4).t(), "every_second": pool[1::2],
             "repeated": pool[2:3].expand(4), "zero_dim": pool[5]}
    save("views.bin", views, views)
    save("protocol4.bin", {"w": zoo["f32"]}, {"w": zoo["f32"]}, pickle_protocol=4)
    with open(directory / "archive_name.bin", "wb") as stream:  # to a stream: the folder inside is called "archive"
        torch.save({"w": zoo["f32"]}, stream)
    expected["archive_name.bin"] = described({"w": zoo["f32"]})

    bad = directory / "bad"
    bad.mkdir()
    torch.save({"w": zoo["f32"]}, bad / "legacy_format.bin", _use_new_zipfile_serialization=False)
    legacy = (bad / "legacy_format.bin").read_bytes()  # names its storage by an address: put a fixed number of that length
    (bad / "legacy_format.bin").write_bytes(re.sub(rb"\d{9,20}", lambda m: b"1" * len(m[0]), legacy))
    assert torch.equal(torch.load(bad / "legacy_format.bin")["w"], zoo["f32"])
    torch.save({"w": zoo["f32"], "evil": Evil()}, bad / "calls_a_function.bin")
    (bad / "bare_pickle.bin").write_bytes(pickle.dumps({"a": 1}, protocol=2))
    (bad / "empty_file.bin").write_bytes(b"")
    good = (directory / "archive_name.bin").read_bytes()
    (bad / "cut.bin").write_bytes(good[: len(good) // 2])
    rewrite(directory / "archive_name.bin", bad / "storage_missing.bin", lambda n, d: None if n.endswith("data/0") else d)
    rewrite(directory / "archive_name.bin", bad / "storage_short.bin", lambda n, d: d[:-1] if n.endswith("data/0") else d)
    rewrite(directory / "archive_name.bin", bad / "pickle_cut.bin", lambda n, d: d[: len(d) // 2] if n.endswith("data.pkl") else d)
    rewrite(directory / "archive_name.bin", bad / "no_pickle.bin", lambda n, d: None if n.endswith("data.pkl") else d)
    rewrite(directory / "archive_name.bin", bad / "compressed.bin", lambda n, d: d, zipfile.ZIP_DEFLATED)
    shape = b"K\x02K\x03\x86"  # BININT1 2, BININT1 3, TUPLE2: the shape (2, 3)
    patched = lambda n, d: d.replace(shape, b"K\xc8K\x03\x86", 1) if n.endswith("data.pkl") else d
    rewrite(directory / "archive_name.bin", bad / "shape_past_storage.bin", patched)
    assert (bad / "shape_past_storage.bin").read_bytes().count(b"K\xc8K\x03\x86") == 1
    for path in bad.iterdir():
        if path.name not in ("legacy_format.bin", "compressed.bin"):
            try:
                torch.load(path, weights_only=True)
                print(f"  note: torch.load accepts {path.name}")
            except Exception:  # noqa: BLE001
                pass
    write_case_json(directory, {"files": expected, "bad": sorted(p.name for p in bad.iterdir()),
                                "note": "every file under bad/ must be refused with an error that names the file; torch itself "
                                        "reads legacy_format.bin (the format before torch 1.6) and compressed.bin"})


def rewrite(source, target, change, method=zipfile.ZIP_STORED):
    """Copies a zip member by member through `change(name, data)`; None drops the member. Dates are fixed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for info in old.infolist():
            data = change(info.filename, old.read(info))
            if data is not None:
                member = zipfile.ZipInfo(info.filename, (1980, 1, 1, 0, 0, 0))
                member.compress_type = method
                new.writestr(member, data)


def main():
    torch.set_num_threads(1)
    print(common.versions())
    model = cases.make_model(BASE)
    stream = cases.make_stream(cases.CONFIGS[BASE]["seed"], model.config.vocab_size)
    make_sharded(model)
    make_original(cases.make_model(BASE), stream)
    make_safetensors()
    make_torch_bin()
    print("sharded, original, safetensors, torch_bin written")


if __name__ == "__main__":
    main()
