#!/usr/bin/env bash
# regression.sh [--program PATH] [--output DIR] [--update-baseline] [-- OPTIONS]: quantizes the sample model and compares
# the report with scripts/ci/baseline.json. What a CI job runs; quantize.yml beside it is such a job.
#
#   --program PATH     the program (default: build/tools/quantize of this tree)
#   --output DIR       a directory that does not exist (default: build/regression, which is replaced). Afterwards it
#                      holds model/ with report.json, junit.xml, report.html and changes.txt
#   --update-baseline  store this run's report as the baseline instead of comparing
#   OPTIONS            more options of `quantize` for the run
#
# The tolerances are wider than what another CPU changes (0.01 % of perplexity, 0.1 dB; a clip that is chosen by its
# error may fall to its neighbour) and narrower than what a mistake in a step costs (several per cent, several dB).
#
# Exit code: that of `quantize check` (0 as good as the baseline, 3 worse), or of the command that failed.

set -euo pipefail
tree="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
baseline=$tree/scripts/ci/baseline.json
program=$tree/build/tools/quantize
output=
update=0
options=()

usage_error() {
  printf 'regression.sh: %s; see --help\n' "$*" >&2
  exit 2
}

while (($# > 0)); do
  case $1 in
    -h | --help)
      sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    --program | --output)
      (($# > 1)) || usage_error "$1 needs a value"
      case $1 in
        --program) program=$2 ;;
        --output) output=$2 ;;
      esac
      shift 2
      ;;
    --update-baseline)
      update=1
      shift
      ;;
    --)
      shift
      options=("$@")
      break
      ;;
    *) usage_error "unknown argument $1" ;;
  esac
done

[[ -x $program ]] || usage_error "$program is not a program; build it, or use --program"
if [[ -z $output ]]; then
  output=$tree/build/regression
  rm -rf "$output"
fi
[[ ! -e $output ]] || usage_error "$output exists"
mkdir -p "$output"

"$program" --method quamba "$tree/tests/data/mamba-1m/model.pt" \
  --calib "$tree/tests/data/shakespeare-calib.txt" --eval-text "$tree/tests/data/shakespeare-eval.txt" \
  --samples 16 --seq-len 128 --quiet -o "$output/model" "${options[@]}"

if ((update)); then
  cp "$output/model/report.json" "$baseline"
  printf 'stored %s\n' "$baseline"
  exit 0
fi

# The page and the changes are wanted most when the comparison fails, so they come first.
"$program" report "$output/model" --html "$output/report.html"
"$program" diff "$baseline" "$output/model/report.json" >"$output/changes.txt"

annotate=()
if [[ ${GITHUB_ACTIONS:-} == true ]]; then annotate=(--annotate); fi
"$program" check "$output/model" --baseline "$baseline" --junit "$output/junit.xml" "${annotate[@]}" \
  --max-perplexity-increase 0.5% \
  --max-sqnr-drop-db 1.5 \
  --max-size-increase 0.1% \
  --require '/quality/mean_kl <= baseline * 1.25' \
  --require '/quality/top1_agreement >= baseline - 0.01' \
  --require '/fallbacks <= baseline' \
  --require '/warnings <= baseline'
