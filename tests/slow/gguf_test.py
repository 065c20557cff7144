#!/usr/bin/env python3
"""gguf_test.py QUANTIZE DATA: compares exports of the sample models with llama.cpp, in the working directory.

- The mean NLL of llama.cpp on each export, corrections included, is ours on the same file, and for floats that of the
  source. llama.cpp rounds the inputs of products with blocks to 8 bits, and with BF16 to BF16, which `eval` does not:
  hence two tolerances.
- Blocks of Q8_0, Q4_0 and Q4_1 are byte for byte those of gguf's own packing; those of the searched types leave at most
  1.02 x the squared error of ggml's.
- Both tokenizers give the same ids, and a file that another program wrote computes the same here.
- Models of random weights of every other architecture that has a row, in floats: the same NLL as that of their source.
"""
import ctypes as c
import json
import pathlib
import subprocess
import sys

import gguf
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import bench_llama as llama_cpp  # noqa: E402
from write_gguf import write_gguf  # noqa: E402

WINDOW, TOKENS = 256, 1024
FLOAT_TOLERANCE, ROUNDED_TOLERANCE = 2e-4, 4e-3
quantize, data = sys.argv[1], pathlib.Path(sys.argv[2])
text = data / "shakespeare-eval.txt"
lib = llama_cpp.load_library(None)
pointer, i32 = c.c_void_p, c.c_int32
for name, result, arguments in (
        ("llama_get_logits", c.POINTER(c.c_float), [pointer]), ("llama_adapter_lora_init", pointer, [pointer, c.c_char_p]),
        ("llama_set_adapters_lora", i32, [pointer, c.POINTER(pointer), c.c_size_t, c.POINTER(c.c_float)]),
        ("llama_tokenize", i32, [pointer, c.c_char_p, i32, c.POINTER(i32), i32, c.c_bool, c.c_bool]),
        ("ggml_quantize_chunk", c.c_size_t, [c.c_int, pointer, pointer, c.c_int64, c.c_int64, c.c_int64, pointer])):
    function = getattr(lib, name)
    function.restype, function.argtypes = result, arguments


def run(*arguments):
    return subprocess.run([quantize, *map(str, arguments)], check=True, stdout=subprocess.PIPE, text=True).stdout


def their_nll(path, ids, lora=None):
    model = llama_cpp.Llama(lib, path, WINDOW, 1)
    if lora:
        adapter = lib.llama_adapter_lora_init(model.model, str(lora).encode())
        assert adapter, f"llama.cpp does not load {lora}"
        assert lib.llama_set_adapters_lora(model.context, (pointer * 1)(adapter), 1, (c.c_float * 1)(1.0)) == 0
    total, windows = 0.0, ids.reshape(-1, WINDOW)
    for window in windows:
        lib.llama_memory_clear(lib.llama_get_memory(model.context), True)
        model.batch.n_tokens = WINDOW
        for i, token in enumerate(window.tolist()):
            model.batch.token[i], model.batch.pos[i], model.batch.n_seq_id[i] = token, i, 1
            model.batch.seq_id[i][0], model.batch.logits[i] = 0, 1
        assert lib.llama_decode(model.context, model.batch) == 0
        x = np.ctypeslib.as_array(lib.llama_get_logits(model.context), (WINDOW, model.vocab))[:-1].astype(np.float64)
        total += (np.log(np.exp(x - x.max(1, keepdims=True)).sum(1)) + x.max(1) - x[np.arange(WINDOW - 1), window[1:]]).sum()
    return total / (len(windows) * (WINDOW - 1))


def our_nll(path):
    return json.loads(run("eval", path, "--text", "ids.npy", "--seq-len", WINDOW, "--json", "--quiet"))["mean_nll"]


def compare(what, ours, theirs, tolerance):
    print(f"{what:40} ours {ours:.6f}, llama.cpp {theirs:.6f}", flush=True)
    assert abs(ours - theirs) <= tolerance, what


def check_floats_and_types(model, name, ids):
    source = our_nll(model)
    for kind in ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "iq4_nl", "q4_k", "q5_k", "q6_k"):
        path = f"{name}-{kind}.gguf"
        run("export", model, "--format", "gguf", "--type", kind, "-o", path)
        theirs = their_nll(path, ids)
        compare(path, our_nll(path), theirs, FLOAT_TOLERANCE if kind in ("f32", "f16") else ROUNDED_TOLERANCE)
        if kind == "f32":
            compare(path + " and its source", source, theirs, FLOAT_TOLERANCE)


def check_outputs(model, name, ids):
    calibration = ("--calib", data / "shakespeare-calib.txt", "--samples", 16, "--seq-len", 128, "--quiet")
    for method, option, bits in (("rtn", "--bits", "w4a16"), ("rtn", "--bits", "w8a8"), ("qera", "--base", "mxint4"),
                                 ("qera", "--base", "int4-g128-asym"), ("qera", "--base", "nf4")):
        output = f"{name}-{bits}"
        run("--method", method, option, bits, model, *calibration, "-o", output)
        result = json.loads(run("export", output, "--format", "gguf", "-o", output + ".gguf", "--json"))
        theirs = their_nll(output + ".gguf", ids, result["adapter"])
        # The adapter is no part of the file that is read here; with it llama.cpp computes what the output does.
        ours = our_nll(output if result["adapter"] else output + ".gguf")
        compare(output, ours, theirs, ROUNDED_TOLERANCE)


def check_blocks(name):
    floats = {t.name: t.data for t in gguf.GGUFReader(f"{name}-f32.gguf").tensors}
    ratios = {}
    for kind in ("q8_0", "q4_0", "q4_1", "iq4_nl", "q4_k", "q5_k", "q6_k"):
        for tensor in gguf.GGUFReader(f"{name}-{kind}.gguf").tensors:
            wanted = gguf.GGMLQuantizationType[kind.upper()]
            if tensor.tensor_type != wanted:
                continue
            x = np.ascontiguousarray(floats[tensor.name], np.float32)
            if kind in ("q8_0", "q4_0", "q4_1"):
                assert tensor.data.tobytes() == gguf.quants.quantize(x, wanted).tobytes(), (kind, tensor.name)
                continue
            theirs = np.zeros_like(tensor.data)
            lib.ggml_quantize_chunk(int(wanted), x.ctypes.data, theirs.ctypes.data, 0, x.shape[0], x.shape[1], None)
            errors = [float(((gguf.quants.dequantize(d, wanted) - x) ** 2).sum()) for d in (tensor.data, theirs)]
            ratios.setdefault(kind, []).append(errors[0] / errors[1])
    for kind, values in ratios.items():
        print(f"{name} {kind}: {np.mean(values):.3f} of ggml's squared error, at most {max(values):.3f}")
        assert max(values) <= 1.02, kind


def check_tokenizer(name, ids):
    model = llama_cpp.Llama(lib, f"{name}-f16.gguf", WINDOW, 1)
    raw = text.read_bytes()
    theirs = (i32 * len(raw))()
    count = lib.llama_tokenize(lib.llama_model_get_vocab(model.model), raw, len(raw), theirs, len(raw), False, False)
    assert theirs[:count] == ids, "the tokenizers differ"
    again = json.loads(run("eval", f"{name}-f16.gguf", "--text", text, "--seq-len", WINDOW, "--max-tokens", TOKENS, "--json", "--quiet"))
    compare(f"{name} by its own tokenizer", again["mean_nll"], our_nll(f"{name}-f16.gguf"), 0)
    print(f"{name}: {count} ids of both tokenizers are the same")


# What llama.cpp has no place for is set to what it computes.
ROPE = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.75}
FAMILIES = {"granite": {}, "olmo2": {}, "phi3": {"rope_parameters": ROPE}, "gemma2": {"query_pre_attn_scalar": 12}, "stablelm": {},
            "gpt-neox": {}, "falcon-mamba": {}, "mamba2": {}, "mamba2-state-spaces": {}}


def check_families(families):
    ids = np.random.default_rng(0).integers(0, 160, TOKENS)
    np.save("ids.npy", ids)
    for name, changes in FAMILIES.items():
        model = pathlib.Path(name)
        model.mkdir()
        config = json.loads((families / name / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(config | changes))
        for weights in families.glob(f"{name}/model.safetensors"), families.glob(f"{name}/pytorch_model.bin"):
            for path in weights:
                (model / path.name).symlink_to(path)
        run("export", name, "--format", "gguf", "--type", "f32", "--tokenizer", "none", "-o", f"{name}.gguf")
        compare(name, our_nll(name), their_nll(f"{name}.gguf", ids), FLOAT_TOLERANCE)
        compare(f"{name}, the file", our_nll(f"{name}.gguf"), our_nll(name), 1e-5)


llama, mamba = data / "llama-1m", data / "mamba-1m"
all_ids = json.loads(run("tokenize", llama, "--text", text, "--no-special").splitlines()[0])
ids = np.array(all_ids[:TOKENS])
np.save("ids.npy", ids)
for model, name in ((llama, "llama"), (mamba / "model.pt", "mamba")):
    check_floats_and_types(model, name, ids)
    check_outputs(model, name, ids)
    check_blocks(name)
    check_tokenizer(name, all_ids)
write_gguf(llama, "q4_0", "other.gguf")
compare("a file of another program", our_nll("other.gguf"), our_nll("llama-q4_0.gguf"), 0)
check_families(pathlib.Path(__file__).resolve().parents[1] / "golden/models/families")
