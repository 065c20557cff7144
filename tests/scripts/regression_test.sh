#!/usr/bin/env bash
# regression_test.sh PROGRAM: the commands of the example CI job. The tree as it is meets the stored baseline; a run
# without the rotation and the clip search does not, and JUnit, annotations and page say so.
set -euo pipefail
regression="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/scripts/ci/regression.sh"
workflow="$(dirname "$regression")/quantize.yml"
program=$1
# shellcheck source=tests/scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

"$regression" --program "$program" --output good >messages || fail "exit code $?: $(cat messages)"
grep -q '7 thresholds, all met' messages || fail "messages: $(cat messages)"
grep -q 'failures="0"' good/junit.xml || fail "junit: $(cat good/junit.xml)"
[[ -s good/report.html && -s good/changes.txt ]] || fail "files: $(ls good)"

code=0
GITHUB_ACTIONS=true "$regression" --program "$program" --output bad -- --set quamba.hadamard=false \
  --set quamba.percentile=1 >messages 2>errors || code=$?
[[ $code == 3 ]] || fail "exit code $code for a worse run, expected 3: $(cat errors)"
grep -q '^MISS  --max-perplexity-increase 0.5%' messages || fail "messages: $(cat messages)"
grep -q '^::error title=quantize check' messages || fail "no annotation: $(cat messages)"
grep -q '<failure type="threshold"' bad/junit.xml || fail "junit: $(cat bad/junit.xml)"
[[ -s bad/report.html ]] || fail "no page of the worse run"

code=0
"$regression" --program "$program" --output good >messages 2>&1 || code=$?
[[ $code == 2 ]] || fail "exit code $code for an output that exists, expected 2"

# The job runs this script, and keeps what it writes.
grep -q 'run: scripts/ci/regression.sh --output regression' "$workflow" || fail "the workflow runs something else"
for file in junit.xml report.html changes.txt model/report.json; do
  grep -q "regression/$file" "$workflow" || fail "the workflow does not keep $file"
  [[ -s good/$file ]] || fail "$file is not written"
done
printf 'regression: as expected\n'
