#!/usr/bin/env bash
# peft_test.sh QUANTIZE MODEL TEXT DIR: an exported adapter, loaded by the real library, gives the logits that this
# program computes. Installs peft and transformers into DIR/env (with the libtorch of the project's .venv, if there is
# one); exits with 77, which CTest counts as skipped, if they cannot be installed.
set -euo pipefail
quantize=$1 model=$2 text=$3 work=$4
# shellcheck source=tests/slow/python_env.sh
source "$(dirname "${BASH_SOURCE[0]}")/python_env.sh"
python_env "$work" "peft, transformers" peft transformers

rm -rf "$work/q" "$work/a" "$work/a-base"
cd "$work"
"$quantize" --method qera --base mxint3 --rank 16 "$model" --calib "$text" --samples 16 --seq-len 128 -o q --quiet
"$quantize" export q --format peft -o a
"$quantize" eval q --text "$text" --seq-len 128 --max-tokens 1024 --json --quiet > ours.json
"$quantize" eval a-base --text "$text" --seq-len 128 --max-tokens 1024 --json --quiet > base.json
"$quantize" tokenize "$model" --text "$text" --no-special > ids.json
"$python" - << 'PYTHON'
import json, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

ids = torch.tensor(json.loads(open("ids.json").readline())[:1024]).reshape(-1, 128)
ours, base_ours = (json.load(open(name)) for name in ("ours.json", "base.json"))

def mean_nll(model):
    with torch.no_grad():
        logits = model(ids).logits[:, :-1].double()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).item()

base = AutoModelForCausalLM.from_pretrained("a-base", dtype=torch.float32)
plain = mean_nll(base)
model = PeftModel.from_pretrained(base, "a").float().eval()
adapted = mean_nll(model)
print(f"base {plain:.6f} (ours {base_ours['mean_nll']:.6f}), with the adapter {adapted:.6f} (ours {ours['mean_nll']:.6f})")
assert abs(plain - base_ours["mean_nll"]) < 1e-4
assert abs(adapted - ours["mean_nll"]) < 1e-4
assert adapted < plain
PYTHON
