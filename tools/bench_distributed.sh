#!/usr/bin/env bash
# bench_distributed.sh PROGRAM MODEL TEXT [OPTIONS...]: quantizes MODEL as one process of one thread and as two, in turns
# (REPEATS of each, default 3), and prints the best of both: seconds of the clock, CPU seconds of all processes, and how
# many times as fast two are. OPTIONS: of the run (default: --method duquant --bits w4a4).
#
# On a machine that does something else meanwhile the clock says little: then the CPU seconds of two processes, which are
# those of one and what is done twice, and of the busier of the two, which nothing can be faster than, say more.
set -euo pipefail
(($# >= 3)) || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
program=$(realpath "$1") model=$(realpath "$2") text=$(realpath "$3")
shift 3
(($# > 0)) || set -- --method duquant --bits w4a4
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OMP_WAIT_POLICY=passive TIMEFORMAT='%R %U %S'
export MASTER_ADDR=127.0.0.1 WORLD_SIZE=2

# Appends "seconds user system" of a command to a file.
timed() {
  local file=$1
  shift
  { time "$@" >/dev/null 2>"$temp/log" || { cat "$temp/log" >&2; kill $$; }; } 2>>"$file"
}
process() {
  RANK=$1 timed "$temp/rank$1" "$program" "$model" --calib "$text" "${@:2}" -o "$temp/two" --force --quiet --distributed
}
both() {
  export MASTER_PORT=$((20000 + RANDOM % 20000))
  process 1 "$@" &
  process 0 "$@"
  wait
}

for ((i = 0; i < ${REPEATS:-3}; ++i)); do
  timed "$temp/one.times" "$program" "$model" --calib "$text" "$@" -o "$temp/one" --force --quiet
  both "$@"
done
cmp "$temp/one/model.safetensors" "$temp/two/model.safetensors"
paste "$temp/one.times" "$temp/rank0" "$temp/rank1" | awk '
  function least(a, b) { return NR == 1 || b < a ? b : a }
  { one = least(one, $1); two = least(two, $4)
    cpu1 = least(cpu1, $2 + $3); cpu0 = least(cpu0, $5 + $6); cpuother = least(cpuother, $8 + $9) }
  END {
    busier = cpu0 > cpuother ? cpu0 : cpuother
    printf "one process    %7.2f s of the clock, %7.2f s of CPU\n", one, cpu1
    printf "two processes  %7.2f s of the clock, %7.2f s of CPU (%.2f and %.2f)\n", two, cpu0 + cpuother, cpu0, cpuother
    printf "ratio          %7.2f by the clock,   %7.2f by the busier process\n", one / two, cpu1 / busier
  }'
