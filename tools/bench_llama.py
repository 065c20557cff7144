#!/usr/bin/env python3
"""Compares decoding and prefill of `quantize` with llama.cpp on one Llama checkpoint, and prints medians and ratios.

pip install numpy xllamacpp       # the latter has a whole llama.cpp for CPUs and exports its C API; or --library
bench_llama.py SOURCE MODEL... [--types f16,q8_0,q4_0]

SOURCE is a float checkpoint, which `quantize export` writes as GGUF into a temporary directory; MODELs are what `quantize
bench` runs, SOURCE among them if wanted. Rounds are interleaved: each measures every MODEL, then every type. Prompts are
random ids, the same length for all. A Q4_0 file has its embedding, which is the head, in Q8_0.
"""
import argparse
import ctypes as c
import importlib.util
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np


def export_gguf(program, source, kind, path):
    command = [program, "export", source, "--format", "gguf", "--type", kind, "--tokenizer", "none", "-o", path, "--quiet"]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)


class Params(c.Structure):      # longer than any llama_{model,context}_params; the first fields of the latter are set
    _fields_ = [("n_ctx", c.c_uint32), ("n_batch", c.c_uint32), ("n_ubatch", c.c_uint32), ("rest", c.c_char * 2036)]


class Batch(c.Structure):
    _fields_ = [("n_tokens", c.c_int32), ("token", c.POINTER(c.c_int32)), ("embd", c.c_void_p), ("pos", c.POINTER(c.c_int32)),
                ("n_seq_id", c.POINTER(c.c_int32)), ("seq_id", c.POINTER(c.POINTER(c.c_int32))), ("logits", c.POINTER(c.c_int8))]


class Llama:
    """A GGUF file in llama.cpp, in a context for `total` tokens."""

    def __init__(self, lib, path, total, threads):
        self.lib = lib
        self.model = lib.llama_model_load_from_file(str(path).encode(), lib.llama_model_default_params())
        if not self.model:
            sys.exit(f"{path}: llama.cpp does not load it")
        params = lib.llama_context_default_params()
        params.n_ctx = params.n_batch = total
        self.context = lib.llama_init_from_model(self.model, params)
        lib.llama_set_n_threads(self.context, threads, threads)
        self.batch = lib.llama_batch_init(total, 0, 1)
        self.vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))

    def next_token(self, tokens, position):
        self.batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            self.batch.token[i], self.batch.pos[i], self.batch.n_seq_id[i] = token, position + i, 1
            self.batch.seq_id[i][0], self.batch.logits[i] = 0, i + 1 == len(tokens)
        if self.lib.llama_decode(self.context, self.batch) != 0:
            sys.exit("llama_decode failed")
        logits = self.lib.llama_get_logits_ith(self.context, -1)
        return int(np.ctypeslib.as_array(logits, (self.vocab,)).argmax())

    def measure(self, prompt, generate):
        """(prefill, decode) in tokens/s."""
        ids = np.random.default_rng(0).integers(0, self.vocab, prompt).tolist()
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)
        times = [time.perf_counter()]
        token = self.next_token(ids, 0)
        times.append(time.perf_counter())
        for i in range(generate):
            token = self.next_token([token], prompt + i)
        times.append(time.perf_counter())
        return prompt / (times[1] - times[0]), generate / (times[2] - times[1])


def load_library(path):
    if not path:
        spec = importlib.util.find_spec("xllamacpp") or sys.exit("pip install xllamacpp, or pass --library")
        path = next(pathlib.Path(spec.submodule_search_locations[0]).glob("xllamacpp*.so"))
    lib = c.CDLL(str(path))
    pointer, i32 = c.c_void_p, c.c_int32
    for name, result, arguments in (
            ("llama_model_default_params", Params, []), ("llama_context_default_params", Params, []),
            ("llama_model_load_from_file", pointer, [c.c_char_p, Params]), ("llama_init_from_model", pointer, [pointer, Params]),
            ("llama_model_get_vocab", pointer, [pointer]), ("llama_vocab_n_tokens", i32, [pointer]),
            ("llama_set_n_threads", None, [pointer, i32, i32]), ("llama_batch_init", Batch, [i32, i32, i32]),
            ("llama_get_memory", pointer, [pointer]), ("llama_memory_clear", None, [pointer, c.c_bool]),
            ("llama_decode", i32, [pointer, Batch]), ("llama_get_logits_ith", c.POINTER(c.c_float), [pointer, i32])):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.quiet = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)(lambda *_: None)
    lib.llama_log_set(lib.quiet, None)
    lib.llama_backend_init()
    return lib


def measure_ours(a):
    """{model: (prefill, decode)} of one repeat."""
    command = [a.program, "bench", *a.models, "--prompt", a.prompt, "--generate", a.generate, "--threads", a.threads,
               "--repeat", 1, "--json", "--quiet", "--compute", a.compute]
    models = json.loads(subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE).stdout)["models"]
    return {m["name"]: (m["prefill_tokens_per_second"]["median"], m["decode_tokens_per_second"]["median"]) for m in models}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("source", type=pathlib.Path)
    p.add_argument("models", nargs="+")
    p.add_argument("--types", default="f16,q8_0,q4_0")
    p.add_argument("--program", default=pathlib.Path(__file__).resolve().parent.parent / "build/tools/quantize")
    p.add_argument("--compute", default="float", choices=["float", "int8"], help="of the MODELs, as in `quantize bench`")
    p.add_argument("--library", help="a libllama.so")
    for name, default in (("prompt", 512), ("generate", 128), ("threads", 1), ("repeat", 5)):
        p.add_argument("--" + name, type=int, default=default)
    a = p.parse_args()
    lib, results = load_library(a.library), {}
    with tempfile.TemporaryDirectory() as folder:
        llamas = {}
        for kind in a.types.split(","):
            path = pathlib.Path(folder) / f"{kind}.gguf"
            export_gguf(a.program, a.source, kind, path)
            llamas["llama.cpp " + kind] = Llama(lib, path, a.prompt + a.generate, a.threads)
        for llama in llamas.values():
            llama.measure(a.prompt, 1)
        for _ in range(a.repeat):
            turn = measure_ours(a) | {name: llama.measure(a.prompt, a.generate) for name, llama in llamas.items()}
            for name, speeds in turn.items():
                results.setdefault(name, []).append(speeds)
    medians = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in results.items()}
    first = next(iter(medians.values()))
    print(f"{'tokens/s, medians of ' + str(a.repeat):40} {'prefill':>10} {'':7} {'decode':>10}")
    for name, (prefill, decode) in medians.items():
        print(f"{name:40} {prefill:10.1f} {prefill / first[0]:6.2f}x {decode:10.1f} {decode / first[1]:6.2f}x")


if __name__ == "__main__":
    main()
