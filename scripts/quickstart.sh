#!/usr/bin/env bash
# quickstart.sh: from a clean clone to a quantized model. Installs what is missing (see setup.sh), builds, quantizes
# the sample model to INT8 and compares it with the float model on text that it was not trained on. May be run again.
#
# Environment: PTQ_TORCH_ROOT, PTQ_TORCH_INDEX (see setup.sh --help).

set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=scripts/lib.sh
source "$here/lib.sh"

case ${1:-} in
  '') ;;
  -h | --help)
    help_of "${BASH_SOURCE[0]}"
    exit 0
    ;;
  *)
    say "quickstart.sh: unknown option $1; see --help"
    exit 2
    ;;
esac

scripts/setup.sh
run cmake --preset release >&2
run cmake --build --preset release --target quantize -j "$(build_jobs)" >&2

model=tests/data/mamba-1m/model.pt
text=tests/data/shakespeare-eval.txt
output=build/quickstart-mamba-1m

run build/tools/quantize --method quamba "$model" --calib tests/data/shakespeare-calib.txt --eval-text "$text" \
  -o "$output" --force
run build/tools/quantize eval "$output" --text "$text" --against "$model"

say
say "The quantized model and its report.json are in $output/."
say "Your own model:  build/tools/quantize --method quamba MODEL   (a directory, .pt, .bin or .safetensors)"
say "Everything else: build/tools/quantize --help, README.md"
