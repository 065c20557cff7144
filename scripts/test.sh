#!/usr/bin/env bash
# test.sh [--fast] [--slow]: installs what is missing, builds, runs the tests, the checks of format and layering among
# them, and the unit tests once more under AddressSanitizer and UndefinedBehaviorSanitizer. The last lines are the
# summary of the run without sanitizers. Exit code 0 if everything passed.
#
#   --fast  without the sanitizers
#   --slow  also the tests labelled slow: those on $PTQ_MODELS_DIR/smollm2-135m, and one that installs peft
#
# Environment: PTQ_TORCH_ROOT, PTQ_TORCH_INDEX (see setup.sh).

set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=scripts/lib.sh
source "$here/lib.sh"

sanitizers=1
select=(--label-exclude '^slow$')
for argument in "$@"; do
  case $argument in
    --fast) sanitizers=0 ;;
    --slow) select=() ;;
    -h | --help)
      help_of "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *)
      say "test.sh: unknown option $argument; see --help"
      exit 2
      ;;
  esac
done

scripts/setup.sh --checks
jobs=$(build_jobs)
export CTEST_OUTPUT_ON_FAILURE=1
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-passive}"  # two tests at a time share the cores
failed=()

build() {
  run cmake --preset "$1"
  run cmake --build --preset "$1" -j "$jobs"
}

# The sanitizers go first so that the summary of all tests comes last; a failure there does not hide the rest.
build release
if ((sanitizers)); then
  build asan
  run ctest --preset asan "${select[@]}" -j "$(nproc)" || failed+=("tests under the sanitizers")
fi
run ctest --preset release "${select[@]}" -j "$(nproc)" || failed+=("tests")

if ((${#failed[@]} > 0)); then
  for what in "${failed[@]}"; do say "failed: $what"; done
  exit 1
fi
