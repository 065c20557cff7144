#!/usr/bin/env bash
# fuzz.sh NAME [SECONDS]: builds the libFuzzer target NAME (tests/fuzz) with clang and runs it for SECONDS (default
# 60), starting from tests/fuzz/corpus/NAME. What it finds goes to build-fuzz/NAME/: the inputs that reached new code
# to corpus/, those that failed beside it. Without a name, lists the targets.

set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=scripts/lib.sh
source "$here/lib.sh"

name=${1:-}
case $name in
  -h | --help)
    help_of "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac
have clang++-19 || die "clang++-19 is missing: scripts/setup.sh --fuzz"

cmake -S . -B build-fuzz -G Ninja -DCMAKE_CXX_COMPILER=clang++-19 -DCMAKE_BUILD_TYPE=RelWithDebInfo \
  -DCMAKE_CXX_FLAGS_RELWITHDEBINFO="-O1 -g" -DPTQ_FUZZ=ON -DPTQ_SANITIZE=fuzzer-no-link,address,undefined >/dev/null
if [[ -z $name ]]; then
  ninja -C build-fuzz -t targets all | sed -n 's/^fuzz_\([a-z0-9_]*\): phony$/\1/p'
  exit 0
fi
run cmake --build build-fuzz -j "$(build_jobs)" --target "fuzz_$name" >&2

found=build-fuzz/$name
mkdir -p "$found/corpus"
seeds=()
if [[ -d tests/fuzz/corpus/$name ]]; then seeds=("tests/fuzz/corpus/$name"); fi
# The limits are those a hostile file is held to: two seconds and 300 MB.
run "build-fuzz/tests/fuzz/fuzz_$name" -max_total_time="${2:-60}" -timeout=2 -rss_limit_mb=1024 -malloc_limit_mb=300 \
  -print_final_stats=1 -artifact_prefix="$found/" "$found/corpus" "${seeds[@]}"
