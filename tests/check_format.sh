#!/usr/bin/env bash
# check_format.sh CLANG_FORMAT: whether every C++ file of the project is formatted as .clang-format says.
set -euo pipefail
: "${1:?the path of clang-format}"
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [[ -e .git ]]; then
  list=(git ls-files -z '*.h' '*.cpp')
else
  list=(find include src tests tools '(' -name '*.h' -o -name '*.cpp' ')' -print0)
fi
"${list[@]}" | xargs -0 --no-run-if-empty "$1" --dry-run -Werror
