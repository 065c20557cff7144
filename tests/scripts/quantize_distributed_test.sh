#!/usr/bin/env bash
# quantize_distributed.sbatch with a stand-in for srun that starts three processes on loopback: quantize_distributed_test.sh
# PROGRAM.
set -euo pipefail
tree="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
program=$1
# shellcheck source=tests/scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

mkdir bin
cat >bin/srun <<'SRUN'
#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
pids=()
for rank in 0 1 2; do
  SLURM_PROCID=$rank SLURM_NTASKS=3 SLURM_STEP_NODELIST=localhost "$@" &
  pids+=($!)
done
code=0
for pid in "${pids[@]}"; do wait "$pid" || code=$?; done
exit "$code"
SRUN
chmod +x bin/srun
cp "$tree/scripts/slurm/quantize_distributed.sbatch" copy.sbatch
export PATH=$temp/bin:$PATH QUANTIZE=$program
submit() {
  SLURM_JOB_ID=$((RANDOM + $$)) SLURM_CPUS_PER_TASK=1 bash copy.sbatch "$@"
}

model=$tree/tests/data/llama-1m
run=("$model" --method gptq --calib "$tree/tests/data/shakespeare-calib.txt" --samples 8 --seq-len 32 --quiet)
submit "${run[@]}" -o out >table || fail "exit code $?"
OMP_NUM_THREADS=1 "$program" "${run[@]}" -o one >/dev/null
for file in config.json model.safetensors; do
  cmp "out/$file" "one/$file" || fail "$file is not that of one process"
done

code=0
submit "$model" --method gptq --bits w9a9 -o wrong >table 2>&1 || code=$?
[[ $code == 2 ]] || fail "exit code $code of wrong bits, expected 2"
code=0
submit >table 2>&1 || code=$?
[[ $code == 2 ]] && grep -q 'which model' table || fail "without a model: $code, $(cat table)"
printf 'quantize_distributed: as expected\n'
