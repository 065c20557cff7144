#!/usr/bin/env python3
"""Writes what this program must open: NF4 by bitsandbytes itself, and GPTQ's second version.

write_weights.py MODEL AWQ: makes library-nf4 and library-nf4-twice (absmax quantized again) of MODEL with transformers and
bitsandbytes, and v2 of the AWQ directory: the same codes in the layout of GPTQ, zero points as they are.
"""
import json
import pathlib
import shutil
import sys

import torch
import transformers
from check_unpacked import AWQ_ORDER, unpack
from safetensors.torch import load_file, save_file


def write_nf4(source, name, twice):
    config = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=twice, bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=["lm_head", "down_proj"])  # down_proj's rows are no multiple of 64
    model = transformers.AutoModelForCausalLM.from_pretrained(source, quantization_config=config, dtype=torch.float16)
    model.save_pretrained(name)
    copy_tokenizer(source, name)


def copy_tokenizer(source, name):
    for file in pathlib.Path(source).glob("tokenizer*"):
        shutil.copy(file, name)


def pack(fields, dim):
    """Integers of 4 bits as int32 words along dim."""
    groups = fields.unflatten(dim, (-1, 8)).to(torch.int64)
    shifts = (4 * torch.arange(8)).reshape([-1] + [1] * (fields.dim() - dim - 1))
    words = (groups << shifts).sum(dim + 1)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32).contiguous()


def write_v2(source, name):
    source, output = pathlib.Path(source), pathlib.Path(name)
    output.mkdir()
    document = json.loads((source / "config.json").read_text())
    group = document["quantization_config"]["group_size"]
    document["quantization_config"] = {
        "quant_method": "gptq", "bits": 4, "group_size": group, "sym": False, "desc_act": False, "checkpoint_format": "gptq_v2"}
    (output / "config.json").write_text(json.dumps(document))
    tensors = load_file(source / "model.safetensors")
    for key in [k for k in tensors if k.endswith(".qweight")]:
        linear = key[: -len(".qweight")]
        fields = unpack(tensors[key], 4, 1, AWQ_ORDER)
        tensors[key] = pack(fields, 0)
        tensors[linear + ".qzeros"] = pack(unpack(tensors[linear + ".qzeros"], 4, 1, AWQ_ORDER), 1)
        tensors[linear + ".g_idx"] = (torch.arange(len(fields)) // group).to(torch.int32)
    save_file(tensors, output / "model.safetensors", metadata={"format": "pt"})
    copy_tokenizer(source, output)


if __name__ == "__main__":
    write_v2(sys.argv[2], "v2")
    write_nf4(sys.argv[1], "library-nf4", False)
    write_nf4(sys.argv[1], "library-nf4-twice", True)
