#!/usr/bin/env python3
"""Loads directories with transformers and compares the mean NLL of token ids with what this program says.

check_weights.py IDS NAME...: NAME is a directory in GPTQ, AWQ, NF4 of bitsandbytes or floats, and NAME.json what
`quantize eval --json --seq-len 128` printed of it, or of what it was made from if NAME-adapter holds corrections, which
peft loads. GPTQModel computes GPTQ and AWQ with float16 or bfloat16 weights, so the difference is not that of float32.
bitsandbytes makes floats of NF4; its other product, which is for CPUs with AVX512-BF16, rounds to bfloat16 and does not
take every number of rows, so it is not used.
"""
import json
import os
import sys

import torch
import transformers

WINDOW = 128


def load(directory):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, output_loading_info=True)
    # A missing tensor is initialised at random and only warned of; that must not pass.
    tied = set(model.all_tied_weights_keys) if model.config.tie_word_embeddings else set()
    lost = {key for key in info["missing_keys"] if key not in tied} | set(info["mismatched_keys"])
    assert not lost and not info["unexpected_keys"] and not info["error_msgs"], (directory, info)
    if getattr(model, "quantization_method", "") == "bitsandbytes":
        for parameter in model.parameters():  # transformers leaves those beside codes as they are stored
            if parameter.dtype == torch.float16:
                parameter.data = parameter.data.float()
    return model.eval()


@torch.no_grad()
def mean_nll(model, ids):
    logits = model(ids).logits[:, :-1].double()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).item()


def main():
    transformers.utils.logging.set_verbosity_error()
    try:
        import bitsandbytes

        bitsandbytes.nn.modules.has_avx512bf16 = bitsandbytes.functional.has_avx512bf16 = lambda: False
    except ImportError:
        pass
    ids = json.loads(open(sys.argv[1]).readline())
    failed = False
    for name in sys.argv[2:]:
        ours = json.load(open(name + ".json"))
        tokens = torch.tensor(ids[: ours["tokens"] // (WINDOW - 1) * WINDOW]).reshape(-1, WINDOW)
        model = load(name)
        if os.path.isdir(name + "-adapter"):
            import peft

            model = peft.PeftModel.from_pretrained(model, name + "-adapter")
        theirs = mean_nll(model, tokens)
        difference = theirs - ours["mean_nll"]
        print(f"{name}: transformers {theirs:.7f}, ours {ours['mean_nll']:.7f}, difference {difference:+.1e}", flush=True)
        failed = failed or not abs(difference) < 2e-4
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
