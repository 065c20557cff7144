#!/usr/bin/env python3
"""Unpacks GPTQ, AWQ and plain tensors by itself, and compares the weights with those of a float directory.

check_unpacked.py FLOATS NAME...: FLOATS is a directory that `quantize export --format float --outtype f32` wrote; NAME is
a directory in GPTQ or AWQ, or a file that `--format pt` wrote, of the same output. The unpacking is written from the
descriptions of the formats, with nothing of this program.
"""
import json
import pathlib
import sys

import torch
from safetensors.torch import load_file

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]  # nibble i of a word is column 8 c + AWQ_ORDER[i]


def unpack(words, bits, dim, order=None):
    """int32 words as integers along dim; the low bits come first."""
    fields = 32 // bits
    parts = [words.to(torch.int64) >> bits * i & 2**bits - 1 for i in range(fields)]
    if order:
        parts = [parts[order.index(i)] for i in range(fields)]
    shape = list(words.shape)
    shape[dim] *= fields
    return torch.stack(parts, dim + 1).reshape(shape)


def to_float(parts, config):
    bits, awq = config["bits"], config["quant_method"] == "awq"
    order = AWQ_ORDER if awq else None
    fields = unpack(parts["qweight"], bits, 1, order) if awq else unpack(parts["qweight"], bits, 0)
    zeros = unpack(parts["qzeros"], bits, 1, order)
    if not awq and config.get("checkpoint_format", "gptq") == "gptq":
        zeros = zeros + 1
    group = config["group_size"] if config["group_size"] > 0 else len(fields)
    index = parts.get("g_idx", torch.arange(len(fields)) // group).long()
    return ((fields - zeros[index]) * parts["scales"].float()[index]).t()


def unpacked_directory(path):
    config = json.loads((path / "config.json").read_text())["quantization_config"]
    tensors = load_file(path / "model.safetensors")
    names = {name[: -len(".qweight")] for name in tensors if name.endswith(".qweight")}
    parts = ("qweight", "qzeros", "scales", "g_idx")
    weights = {n: to_float({p: tensors[f"{n}.{p}"] for p in parts if f"{n}.{p}" in tensors}, config) for n in names}
    return {n + ".weight": w for n, w in weights.items()}


def unpacked_file(path):
    tensors = torch.load(path, weights_only=True)
    scope = {"torch": torch}
    exec(tensors["usage"], scope)  # what the file says of itself
    return {n[: -len(".codes")]: scope["weight"](tensors, n[: -len(".codes")]) for n in tensors if n.endswith(".codes")}


def main():
    floats = load_file(pathlib.Path(sys.argv[1]) / "model.safetensors")
    for name in sys.argv[2:]:
        path = pathlib.Path(name)
        weights = unpacked_directory(path) if path.is_dir() else unpacked_file(path)
        assert weights, name
        worst = max(((w - floats[n]).norm() / floats[n].norm()).item() for n, w in weights.items())
        print(f"{name}: {len(weights)} weights, of which the worst is {worst:.1e} of its size away")
        assert worst < 3e-4, name  # a scale of float16
    print("equal")


if __name__ == "__main__":
    main()
