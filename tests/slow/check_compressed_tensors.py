#!/usr/bin/env python3
"""Loads compressed-tensors directories with transformers and compares the mean NLL of token ids with what this program says.

check_compressed_tensors.py IDS NAME...: NAME is a directory, and NAME.json what `quantize eval --json --seq-len 128` printed
of it, or of what it was made from if NAME-adapter holds corrections, which peft loads. transformers computes in floats:
weights are made floats, and where the layers have rounded inputs these are rounded at every forward, so that W8A8 is
simulated. Its scale of a token is max |x| / 127.5; ours, vLLM's and SGLang's is max |x| / 127, so that is put in its place.
It computes in float64: in float32 enough values fall on the other side of a half to move the mean NLL of a Mamba by 2e-4.
"""
import json
import os
import sys

import compressed_tensors.quantization.lifecycle.forward as forward
import peft
import torch
import transformers

WINDOW = 128


def scales_of_servers(value, args, module, global_scale=None):
    scales, zeros = of_library(value, args, module, global_scale)
    if args.symmetric:
        half_range, highest = (2**args.num_bits - 1) / 2, 2 ** (args.num_bits - 1) - 1
        scales = scales * (half_range / highest)
    return scales, zeros


of_library = forward.compute_dynamic_scales_and_zp
forward.compute_dynamic_scales_and_zp = scales_of_servers


def load(directory):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, output_loading_info=True)
    # A missing tensor is initialised at random and only warned of; that must not pass.
    tied = set(model.all_tied_weights_keys) if model.config.tie_word_embeddings else set()
    lost = {key for key in info["missing_keys"] if key not in tied} | set(info["mismatched_keys"])
    assert not lost and not info["unexpected_keys"] and not info["error_msgs"], (directory, info)
    return model.eval()


@torch.no_grad()
def mean_nll(model, ids):
    logits = model(ids).logits[:, :-1].double()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).item()


def main():
    transformers.utils.logging.set_verbosity_error()
    ids = json.loads(open(sys.argv[1]).readline())
    failed = False
    for name in sys.argv[2:]:
        ours = json.load(open(name + ".json"))
        tokens = torch.tensor(ids[: ours["tokens"] // (WINDOW - 1) * WINDOW]).reshape(-1, WINDOW)
        model = load(name)
        mean_nll(model, tokens[:1])  # the first forward makes the weights floats
        if os.path.isdir(name + "-adapter"):
            model = peft.PeftModel.from_pretrained(model, name + "-adapter")
        theirs = mean_nll(model.double(), tokens)
        difference = theirs - ours["mean_nll"]
        print(f"{name}: transformers {theirs:.7f}, ours {ours['mean_nll']:.7f}, difference {difference:+.1e}")
        failed = failed or not abs(difference) < 2e-4
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
