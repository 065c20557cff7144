"""Writes the files in data/ with PyTorch, and expected.txt: each tensor's name, type, shape and CRC-32.

Run with PyTorch 2.13; the files are kept in the tree so that the tests need no Python.
"""

import collections
import ctypes
import os
import pathlib
import zlib

import torch

DATA = pathlib.Path(__file__).parent / "data"
TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.int64: "I64", torch.int32: "I32",
    torch.int16: "I16", torch.int8: "I8", torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16",
    torch.uint8: "U8", torch.bool: "BOOL",
}


class RunsCode:
    def __reduce__(self):
        return os.system, ("touch pickle_ran_code",)


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)
        self.norm = torch.nn.BatchNorm1d(3)
        self.no_bias = torch.nn.Linear(3, 2, bias=False)
        self.register_buffer("mask", torch.ones(2, 2), persistent=False)
        self.register_buffer("position", torch.arange(5))


def state(dtype=torch.float32):
    torch.manual_seed(1)
    return collections.OrderedDict(
        (name, torch.randn(shape).to(dtype))
        for name, shape in [("backbone.embedding.weight", (5, 4)), ("backbone.norm_f.weight", (4,)), ("step", ())])


def every_type():
    return {name: torch.arange(6).reshape(2, 3).to(dtype) for dtype, name in TYPES.items()}


def tied():
    tensors = state()
    tensors["lm_head.weight"] = tensors["backbone.embedding.weight"]
    return tensors


def strided():
    whole = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5)
    return {"transposed": whole.permute(2, 0, 1), "part": whole[1:, ::2, 3], "flat": whole.view(-1)[7:9],
            "expanded": torch.arange(3).unsqueeze(1).expand(3, 4), "empty": whole[:0]}


def contents():
    """file -> (object, its tensors, keyword arguments of torch.save)"""
    torch.manual_seed(2)
    module = Block()
    nested = {"model": state(), "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}, "epoch": 3}
    deep = {"run": {"weights.ema": state()}}
    parameters = {"w": torch.nn.Parameter(torch.arange(4.0)), "plain": torch.ones(1)}
    old = {"_use_new_zipfile_serialization": False}
    yield "ordered_dict_f16.pt", state(torch.float16), state(torch.float16), {}
    yield "bf16.pt", state(torch.bfloat16), state(torch.bfloat16), {}
    yield "every_type.pt", every_type(), every_type(), {}
    yield "nested.pt", nested, nested["model"], {}
    yield "deep.pt", deep, deep["run"]["weights.ema"], {}
    yield "module.pt", module, module.state_dict(), {}
    yield "tied.pt", tied(), tied(), {}
    yield "strided.pt", strided(), strided(), {}
    yield "parameter.pt", parameters, parameters, {}
    yield "runs_code.pt", {"bad": RunsCode(), **state()}, state(), {}
    for protocol in (3, 4, 5):
        yield f"protocol{protocol}.pt", tied(), tied(), {"pickle_protocol": protocol}
    yield "protocol4_module.pt", module, module.state_dict(), {"pickle_protocol": 4}
    # No module in the legacy form: torch.save puts the source text of its classes into such a file.
    yield "legacy.pt", tied(), tied(), old
    yield "legacy_strided.pt", strided(), strided(), old
    yield "legacy_every_type.pt", every_type(), every_type(), old


def crc32(tensor):
    tensor = tensor.detach().contiguous()
    size = tensor.numel() * tensor.element_size()
    return zlib.crc32(ctypes.string_at(tensor.data_ptr(), size) if size else b"")


def main():
    DATA.mkdir(exist_ok=True)
    lines = []
    for file, saved, tensors, options in contents():
        torch.save(saved, DATA / file, **options)
        for name in sorted(tensors):
            tensor = tensors[name]
            shape = ",".join(str(size) for size in tensor.shape)
            lines.append(f"{file} {name} {TYPES[tensor.dtype]} [{shape}] {crc32(tensor):08x}")
    (DATA / "expected.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
