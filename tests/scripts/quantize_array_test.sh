#!/usr/bin/env bash
# quantize_array.sbatch with a stand-in for the program and without SLURM: each task takes its line of the list, passes
# on exit code and signal, and skips what is done.
set -euo pipefail
tree="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
# shellcheck source=tests/scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

cat >program <<'PROGRAM'
#!/usr/bin/env bash
printf '%s|' "$OMP_NUM_THREADS" "$@"
while (($# > 0)); do
  case $1 in
    -o) output=$2 ;;
    *bad*) exit 1 ;;
    *slow*) trap 'exit 5' TERM; for _ in {1..100}; do sleep 0.1; done ;;
  esac
  shift
done
mkdir -p "$output"
PROGRAM
chmod +x program

cat >list <<'LIST'
# comments and empty lines are no tasks

"my one.pt" out/one --bits w4a16
  # another
bad.pt out/two
slow.pt out/three
LIST

# sbatch copies the script elsewhere; so does this test.
cp "$tree/scripts/slurm/quantize_array.sbatch" copy.sbatch
task() {
  local id=$1
  shift
  SLURM_ARRAY_TASK_ID=$id SLURM_SUBMIT_DIR=$tree SLURM_CPUS_PER_TASK=3 bash copy.sbatch "$@"
}

task 1 list --program ./program -- --method rtn >table || fail "exit code $? of task 1"
grep -Eq '^my one\.pt +done +0' table || fail "table of task 1: $(cat table)"
grep -qxF -- '3|--method|rtn|my one.pt|-o|out/one|--bits|w4a16|' quantize-logs/task-1/001-*.log || fail "arguments"
task 1 list --program ./program >table
grep -Eq '^my one\.pt +skipped' table || fail "a finished model was not skipped: $(cat table)"

code=0
task 2 list --program ./program >table 2>&1 || code=$?
[[ $code == 1 ]] || fail "exit code $code of the bad model, expected 1"

SLURM_ARRAY_TASK_ID=3 SLURM_SUBMIT_DIR=$tree bash copy.sbatch list --program ./program >table 2>&1 &
sleep 1
kill -TERM $!
code=0
wait $! || code=$?
[[ $code == 5 ]] || fail "exit code $code after SIGTERM, expected 5: $(cat table)"

for wrong in 4 0; do
  code=0
  task "$wrong" list >table 2>&1 || code=$?
  [[ $code == 2 ]] || fail "exit code $code of task $wrong, expected 2"
done
code=0
SLURM_SUBMIT_DIR=$temp SLURM_ARRAY_TASK_ID=1 bash copy.sbatch list >table 2>&1 || code=$?
[[ $code == 2 ]] && grep -q 'submit from the top' table || fail "away from the tree: $code, $(cat table)"
printf 'quantize_array: as expected\n'
