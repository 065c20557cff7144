#!/usr/bin/env python3
"""Writes MODEL by the library compressed-tensors itself, in several schemes: what this program must open.

write_compressed_tensors.py MODEL: makes library-NAME of each scheme in the working directory. Weights are rounded to nearest.
"""
import json
import pathlib
import shutil
import sys

import torch
import transformers
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme, apply_quantization_config
from compressed_tensors.quantization.utils import calculate_qparams

TOKENS = QuantizationArgs(num_bits=8, strategy="token", dynamic=True)
SCHEMES = {
    "w4": (QuantizationArgs(num_bits=4, strategy="group", group_size=32), None, "pack-quantized"),
    "w4-zeros": (QuantizationArgs(num_bits=4, symmetric=False, strategy="group", group_size=32), None, "pack-quantized"),
    "w3-rows": (QuantizationArgs(num_bits=3, strategy="channel"), None, "pack-quantized"),
    "w8a8": (QuantizationArgs(num_bits=8, strategy="channel"), TOKENS, "int-quantized"),
}


def write(source, name):
    weights, inputs, form = SCHEMES[name]
    model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    scheme = QuantizationScheme(targets=["Linear"], weights=weights, input_activations=inputs, format=form)
    config = QuantizationConfig(config_groups={"group_0": scheme}, ignore=["lm_head"], format=form, quantization_status="frozen")
    apply_quantization_config(model, config)
    for module in model.modules():
        if getattr(module, "quantization_scheme", None) is None:
            continue
        groups = module.weight.data.unflatten(1, (-1, weights.group_size or module.weight.shape[1]))
        scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), weights)
        module.weight_scale.data.copy_(scale)
        if hasattr(module, "weight_zero_point"):
            module.weight_zero_point.data.copy_(zero)
    compressor = ModelCompressor.from_pretrained_model(model, quantization_format=form)
    compressor.compress_model(model)
    output = pathlib.Path("library-" + name)
    model.save_pretrained(output)
    compressor.update_config(output)
    for file in pathlib.Path(source).glob("tokenizer*"):
        shutil.copy(file, output)
    if not weights.symmetric:  # transformers 5.24 reads its own library's packed zero points only so
        document = json.loads((output / "config.json").read_text())
        document["quantization_config"]["dequantize"] = True
        (output / "config.json").write_text(json.dumps(document))


for scheme_name in SCHEMES:
    write(sys.argv[1], scheme_name)
