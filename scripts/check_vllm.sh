#!/usr/bin/env bash
# check_vllm.sh QUANTIZE DIR IDS [WINDOW]: loads the directory DIR, an export as compressed-tensors, gptq or awq, with vLLM
# and prints the mean NLL of token ids by vLLM and by `quantize eval` of the same directory, one line each. IDS is an .npy of
# token ids; windows have WINDOW ids (default 128).
#
# vLLM must be there already: $PTQ_VLLM_PYTHON (default python3) imports it. It is several gigabytes and mostly wants a GPU,
# so that this is no test: the two figures are for a person to compare. vLLM computes in the model's dtype and rounds inputs
# itself where a layer's are rounded, so that they differ in the third or fourth digit. Corrections are not applied.

set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit 0
fi
if [[ $# -lt 3 ]]; then
  echo "usage: check_vllm.sh QUANTIZE DIR IDS [WINDOW]" >&2
  exit 2
fi
quantize=$(realpath "$1") directory=$(realpath "$2") ids=$(realpath "$3") window=${4:-128}
# shellcheck source=scripts/lib.sh
source "$here/lib.sh"
python=${PTQ_VLLM_PYTHON:-python3}
"$python" -c 'import vllm' 2> /dev/null || die "$python has no vllm: PTQ_VLLM_PYTHON names one that has"

ours=$("$quantize" eval "$directory" --text "$ids" --seq-len "$window" --json --quiet)
"$python" - "$directory" "$ids" "$window" "$ours" <<'PYTHON'
import json
import sys

import numpy as np
from vllm import LLM, SamplingParams

directory, path, window, ours = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
ids = np.load(path).reshape(-1)
ids = ids[: len(ids) // window * window].reshape(-1, window).tolist()
model = LLM(model=directory, skip_tokenizer_init=True, max_model_len=window + 1, enforce_eager=True)
asked = SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False)
losses = []
for output in model.generate([{"prompt_token_ids": row} for row in ids], asked, use_tqdm=False):
    known = zip(output.prompt_token_ids[1:], output.prompt_logprobs[1:])
    losses += [-logprobs[token].logprob for token, logprobs in known]
print(f"vllm      {np.mean(losses):.6f} of {len(losses)} predictions")
print(f"quantize  {ours['mean_nll']:.6f} of {ours['tokens']} predictions")
PYTHON
