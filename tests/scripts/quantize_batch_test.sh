#!/usr/bin/env bash
# quantize_batch.sh with a stand-in for the program: a failure does not stop the rest, the table and the exit code
# say so, and a signal reaches the models that run.
set -euo pipefail
batch="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/scripts/quantize_batch.sh"
# shellcheck source=tests/scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Stand-in: fails for a model called bad, waits for a signal for one called slow, else writes a report.
cat >program <<'PROGRAM'
#!/usr/bin/env bash
printf '%s|' "$@"
model= output=
while (($# > 0)); do
  case $1 in
    -o) output=$2; shift ;;
    --bits) shift ;;
    -*) ;;
    *) model=$1 ;;
  esac
  shift
done
case $model in
  *bad*) exit 1 ;;
  *slow*) trap 'exit 5' TERM; for _ in {1..100}; do sleep 0.1; done ;;
esac
mkdir "$output"
printf '{\n "layers": [{"output_sqnr_db": 3}],\n "quality": {"perplexity_float": 10.5, "perplexity_quantized": 10.75e0},\n "output": {"bytes": 4321, "files": {"a": 1}}\n}\n' >"$output/report.json"
PROGRAM
chmod +x program

cat >list <<'LIST'
# a comment
"models/my good one"  out/one  --method quamba   # another
bad.pt                out/two

third.pt              out/three --bits w4a16
LIST
mkdir out

code=0
"$batch" list --program ./program --jobs 2 -- --quiet >table 2>messages || code=$?
[[ $code == 1 ]] || fail "exit code $code, expected 1"
grep -Eq '^my good one +done +0 +10\.5 +10\.75e0 +4321' table || fail "row of the good model: $(cat table)"
grep -Eq '^bad\.pt +failed +1 +- +- +- ' table || fail "row of the bad model: $(cat table)"
grep -Eq '^third\.pt +done' table || fail "row of the model after the bad one: $(cat table)"
grep -qxF -- '--quiet|models/my good one|-o|out/one|--method|quamba|' quantize-logs/001-*.log || fail "arguments"

code=0
"$batch" list --program ./program --skip-done >table 2>messages || code=$?
grep -Eq '^third\.pt +skipped' table || fail "a finished model was not skipped: $(cat table)"
[[ $code == 1 ]] || fail "exit code $code with --skip-done, expected 1"

printf 'slow.pt out/slow\nlater.pt out/later\n' >slow_list
"$batch" slow_list --program ./program >table 2>messages &
sleep 1
kill -TERM $!
code=0
wait $! || code=$?
[[ $code == 5 ]] || fail "exit code $code after SIGTERM, expected 5"
grep -Eq '^slow\.pt +interrupted +5' table || fail "row of the interrupted model: $(cat table)"
grep -Eq '^later\.pt +not run' table || fail "row of the model that was not run: $(cat table)"

for wrong in 'one_word' '"open quote out' $'a out/x\nb out/x' '# nothing'; do
  printf '%s\n' "$wrong" >wrong_list
  code=0
  "$batch" wrong_list --program ./program >table 2>messages || code=$?
  [[ $code == 2 ]] || fail "exit code $code for the list \"$wrong\", expected 2"
done
printf 'quantize_batch: as expected\n'
