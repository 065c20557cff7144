#!/usr/bin/env bash
# gguf_test.sh QUANTIZE DATA DIR: what is exported as GGUF, in a real llama.cpp. Installs xllamacpp, gguf and numpy into
# DIR/env; exits with 77, which CTest counts as skipped, if they cannot be installed.
set -euo pipefail
quantize=$1 data=$2 work=$3
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

mkdir -p "$work"
env="$work/env"
if [[ ! -x $env/bin/python ]]; then python3 -m venv "$env"; fi
if ! "$env/bin/python" -c 'import gguf, numpy, xllamacpp' 2> /dev/null; then
  "$env/bin/pip" install --quiet xllamacpp gguf numpy > "$work/pip.log" 2>&1 || { echo "xllamacpp cannot be installed"; exit 77; }
fi
rm -rf "$work/files" && mkdir "$work/files" && cd "$work/files"
GGML_NO_BACKTRACE=1 "$env/bin/python" "$here/gguf_test.py" "$quantize" "$data"
