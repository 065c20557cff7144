#!/usr/bin/env bash
# quantize_batch.sh LIST [--jobs N] [--logs DIR] [--program PATH] [--skip-done] [-- OPTIONS]: quantizes many models,
# one after another or N at a time, and ends with a table. A model that fails does not stop the others.
#
# LIST has one model a line: its path, the output directory, then options of `quantize` for it. `#` starts a comment;
# words with blanks are quoted as in a shell. OPTIONS after -- go to every model, before its own.
#
#     # model                output            options
#     /models/mamba-130m     /out/mamba-130m   --method quamba
#     "/models/my llama.pt"  /out/llama        --method duquant --bits w4a4
#
#   --jobs N        models at a time (default 1)
#   --logs DIR      one log a model: what it printed (default: quantize-logs)
#   --program PATH  the program (default: build/tools/quantize of this tree, else the one on the PATH)
#   --skip-done     leave out models whose output directory exists
#
# Each output directory holds the model's report.json. Exit code: 0 all done, 1 some failed, 2 wrong usage,
# 5 interrupted.

set -euo pipefail
# Several runs share the cores: threads that spin while they wait would take the time of those that work.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"

tree="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
jobs=1
logs=quantize-logs
program=
skip_done=0
list=
common=()

usage_error() {
  printf 'quantize_batch.sh: %s; see --help\n' "$*" >&2
  exit 2
}

while (($# > 0)); do
  case $1 in
    -h | --help)
      sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    --jobs | --logs | --program)
      (($# > 1)) || usage_error "$1 needs a value"
      case $1 in
        --jobs) jobs=$2 ;;
        --logs) logs=$2 ;;
        --program) program=$2 ;;
      esac
      shift 2
      ;;
    --skip-done)
      skip_done=1
      shift
      ;;
    --)
      shift
      common=("$@")
      break
      ;;
    -*) usage_error "unknown option $1" ;;
    *)
      [[ -z $list ]] || usage_error "two lists: $list and $1"
      list=$1
      shift
      ;;
  esac
done

[[ -n $list ]] || usage_error "no list of models"
[[ -r $list ]] || usage_error "cannot read $list"
[[ $jobs =~ ^[1-9][0-9]*$ ]] || usage_error "--jobs $jobs is not a number above 0"
if [[ -z $program ]]; then
  program=$tree/build/tools/quantize
  if [[ ! -x $program ]]; then program=$(command -v quantize) || usage_error "no quantize program; use --program"; fi
fi
[[ -x $program ]] || usage_error "$program is not a program"

# The list is read whole and checked before anything runs. xargs takes the quotes off without running anything.
# lines[i] holds the words of model i, one a line.
lines=()
models=()
outputs=()
number=0
while IFS= read -r line || [[ -n $line ]]; do
  number=$((number + 1))
  line=$(sed -e 's/^[[:space:]]*#.*//' -e 's/[[:space:]]#.*//' <<<"$line")
  words=$(xargs -n 1 printf '%s\n' <<<"$line" 2>/dev/null) || usage_error "$list:$number: a quote is not closed"
  if [[ -z $words ]]; then continue; fi
  mapfile -t fields <<<"$words"
  ((${#fields[@]} >= 2)) || usage_error "$list:$number: a model and an output directory are needed"
  for other in "${outputs[@]}"; do
    [[ $other != "${fields[1]}" ]] || usage_error "$list:$number: two models write to ${fields[1]}"
  done
  lines+=("$words")
  models+=("${fields[0]}")
  outputs+=("${fields[1]}")
done <"$list"
((${#models[@]} > 0)) || usage_error "$list names no model"

mkdir -p "$logs"
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

log_of() { printf '%s/%03d-%s.log' "$logs" "$(($1 + 1))" "$(basename "${models[$1]}")"; }

# Runs model i; its exit code and seconds go to the file i of $results.
quantize_one() {
  local -a fields
  local code=0 child start=$SECONDS
  mapfile -t fields <<<"${lines[$1]}"
  "$program" "${common[@]}" "${fields[0]}" -o "${fields[1]}" "${fields[@]:2}" >"$(log_of "$1")" 2>&1 &
  child=$!
  trap 'kill -TERM "$child" 2>/dev/null' TERM INT
  wait "$child" || code=$?
  # A wait that a signal cut short says 128 + signal; the program's own code comes after it.
  while kill -0 "$child" 2>/dev/null; do
    code=0
    wait "$child" || code=$?
  done
  printf '%s %s\n' "$code" "$((SECONDS - start))" >"$results/$1"
}

# The value after "key": in a report, or -. Reports are JSON that `quantize` wrote; blanks carry no meaning there.
field_of() {
  local value=
  if [[ -r $1 ]]; then value=$(tr -d ' \t\r\n' <"$1" | grep -o -m 1 -E "$2" | head -n 1 | sed 's/.*://' || true); fi
  if [[ -z $value || $value == null ]]; then value=-; fi
  printf '%s' "$value"
}

status_of() {
  case $1 in
    0) printf 'done' ;;
    2) printf 'usage' ;;
    5) printf 'interrupted' ;;
    70) printf 'bug' ;;
    *) printf 'failed' ;;
  esac
}

print_table() {
  local i code seconds report number='[-+.0-9eE]+'
  printf '\n%-32s %-12s %5s %12s %12s %14s %8s\n' model status code float-ppl quant-ppl bytes seconds
  for i in "${!models[@]}"; do
    report=${outputs[$i]}/report.json
    if [[ -r $results/$i ]]; then
      read -r code seconds <"$results/$i"
      status=$(status_of "$code")
    else
      code=- seconds=- status='not run'
      if [[ -e $results/$i.skipped ]]; then status=skipped; fi
    fi
    if [[ $code != 0 && $status != skipped ]]; then report=/dev/null; fi
    printf '%-32s %-12s %5s %12.12s %12.12s %14s %8s\n' "$(basename "${models[$i]}")" "$status" "$code" \
      "$(field_of "$report" "\"perplexity_float\":$number")" \
      "$(field_of "$report" "\"perplexity_quantized\":$number")" \
      "$(field_of "$report" '"output":\{"bytes":[0-9]+')" "$seconds"
  done
}

stop() {
  local running
  trap '' INT TERM
  mapfile -t running < <(jobs -p)
  if ((${#running[@]} > 0)); then
    kill -TERM "${running[@]}" 2>/dev/null || true
    wait "${running[@]}" 2>/dev/null || true
  fi
  print_table
  exit 5
}
trap stop INT TERM

for i in "${!models[@]}"; do
  if ((skip_done)) && [[ -e ${outputs[$i]} ]]; then
    : >"$results/$i.skipped"
    continue
  fi
  while (($(jobs -rp | wc -l) >= jobs)); do wait -n || true; done
  printf '[%d/%d] %s -> %s, log in %s\n' "$((i + 1))" "${#models[@]}" "${models[$i]}" "${outputs[$i]}" \
    "$(log_of "$i")" >&2
  quantize_one "$i" &
done
wait

print_table
for i in "${!models[@]}"; do
  if [[ -e $results/$i.skipped ]]; then continue; fi
  read -r code _ <"$results/$i"
  if ((code != 0)); then
    printf '\nsome models failed; the logs in %s/ say why\n' "$logs" >&2
    exit 1
  fi
done
