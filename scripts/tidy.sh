#!/usr/bin/env bash
# tidy.sh [BASE | --all]: clang-tidy-19 on the .cpp files that changed since the commit BASE (default main~1),
# uncommitted changes included, or on all of them. A changed header stands for the .cpp of its name. A file that
# includes ATen.h takes up to a minute.

set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=scripts/lib.sh
source "$here/lib.sh"

all=0
base=main~1
case ${1:-} in
  -h | --help)
    help_of "${BASH_SOURCE[0]}"
    exit 0
    ;;
  --all) all=1 ;;
  '') git rev-parse -q --verify "$base^{commit}" >/dev/null || base=HEAD~1 ;;
  *) base=$1 ;;
esac
have clang-tidy-19 || die "clang-tidy-19 is missing: scripts/setup.sh --checks"

if ((all)); then
  mapfile -t files < <(git ls-files 'src/*.cpp' 'tools/*.cpp' 'tests/*.cpp')
else
  git rev-parse -q --verify "$base^{commit}" >/dev/null || die "no commit $base"
  mapfile -t files < <(
    git diff --name-only --diff-filter=d "$base" -- 'src/*.cpp' 'tools/*.cpp' 'tests/*.cpp' 'src/*.h' 'include/*.h' |
      sed -e 's|^include/ptq/|src/|' -e 's|\.h$|.cpp|' | sort -u | while read -r file; do
      if [[ -e $file ]]; then printf '%s\n' "$file"; fi
    done
  )
fi
if ((${#files[@]} == 0)); then
  say "no C++ file changed since $base"
  exit 0
fi

# A build folder of its own: gcc's precompiled headers are an error to clang, and clang-tidy would take ccache for
# the compiler.
cmake -S . -B build-tidy -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON -DPTQ_CCACHE=OFF \
  >/dev/null
say "clang-tidy on ${#files[@]} files"
# omp.h comes with another package of clang, and clang does not know every warning of gcc.
printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P "$(build_jobs)" clang-tidy-19 -p build-tidy --quiet \
  --extra-arg=-fno-openmp --extra-arg=-Wno-unknown-warning-option
