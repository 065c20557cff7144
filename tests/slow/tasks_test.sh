#!/usr/bin/env bash
# tasks_test.sh QUANTIZE DATA DIR: `eval --task` and lm-evaluation-harness on the same models and questions. Installs lm_eval
# with transformers into DIR/env; exits with 77, which CTest counts as skipped, if they cannot be installed.
set -euo pipefail
quantize=$1 data=$2 work=$3
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

# shellcheck source=tests/slow/python_env.sh
source "$here/python_env.sh"
python_env "$work" "lm_eval, transformers" "lm_eval[hf]"
rm -rf "$work/files" && mkdir "$work/files" && cd "$work/files"
# Everything is here already: the questions are made, the models lie in the tree.
export HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 HF_HOME="$work/files/hub" DISABLE_MULTIPROC=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1
"$python" "$here/tasks_test.py" "$quantize" "$data"
