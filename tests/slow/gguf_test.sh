#!/usr/bin/env bash
# gguf_test.sh QUANTIZE DATA DIR: what is exported as GGUF, in a real llama.cpp. Installs xllamacpp, gguf and numpy into
# DIR/env; exits with 77, which CTest counts as skipped, if they cannot be installed.
set -euo pipefail
quantize=$1 data=$2 work=$3
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

# shellcheck source=tests/slow/python_env.sh
source "$here/python_env.sh"
python_env "$work" "gguf, numpy, xllamacpp" xllamacpp gguf numpy
rm -rf "$work/files" && mkdir "$work/files" && cd "$work/files"
GGML_NO_BACKTRACE=1 "$python" "$here/gguf_test.py" "$quantize" "$data"
