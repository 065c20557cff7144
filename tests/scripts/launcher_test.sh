#!/usr/bin/env bash
# launcher_test.sh LAUNCHER VERSION: which libtorch an installation finds, with stand-ins for the program and for
# libtorch. VERSION is the one that the launcher was built for, such as 2.13.
set -euo pipefail
launcher=$1 version=$2
# shellcheck source=tests/scripts/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

expect() {
  [[ $2 == "$3" ]] || fail "$1: expected \"$3\", got \"$2\""
}

# torch ROOT VERSION: a stand-in for a torch package.
torch() {
  mkdir -p "$1/lib"
  : >"$1/lib/libtorch_cpu.so"
  printf "debug = False\n__version__ = '%s'\ncuda = None\n" "$2" >"$1/version.py"
}

# installation PREFIX: its program prints the first folder that libraries are taken from, and its arguments.
installation() {
  mkdir -p "$1/bin" "$1/lib/quantize"
  cp "$launcher" "$1/bin/quantize"
  # shellcheck disable=SC2016  # expanded when it runs
  printf '#!/bin/bash\nprintf "%%s|" "${LD_LIBRARY_PATH%%%%:*}" "$@"\n' >"$1/lib/quantize/quantize"
  chmod +x "$1/lib/quantize/quantize"
}

# Runs an installation with nothing of this machine in the environment but the given variables.
run() {
  local prefix=$1
  shift
  env -i PATH=/usr/bin:/bin HOME="$temp/home" "$@" "$prefix/bin/quantize" --version 'a b' 2>&1
}

installation env
site=env/lib/python3.99/site-packages

torch "$site/torch" "$version.0+cpu"
expect "torch of this environment" "$(run env)" "$temp/$site/torch/lib|--version|a b|"
ln -s "$temp/env/bin/quantize" link
expect "a link to the program" "$(env -i "$temp/link")" "$temp/$site/torch/lib|"

# Another version is passed over for one that fits, wherever that is.
torch "$site/torch" "${version}1.0"
torch home/.local/lib/python3.98/site-packages/torch "$version.7"
expect "torch of the user" "$(run env)" "$temp/home/.local/lib/python3.98/site-packages/torch/lib|--version|a b|"
torch base/lib/python3.99/site-packages/torch "$version.1"
printf 'home = %s/base/bin\ninclude-system-site-packages = true\n' "$temp" >env/pyvenv.cfg
expect "torch of the Python below" "$(run env)" "$temp/base/lib/python3.99/site-packages/torch/lib|--version|a b|"
printf 'home = %s/base/bin\ninclude-system-site-packages = false\n' "$temp" >env/pyvenv.cfg
torch other/lib/python3.97/site-packages/torch "$version.2"
expect "torch of VIRTUAL_ENV" "$(run env VIRTUAL_ENV="$temp/other")" \
  "$temp/other/lib/python3.97/site-packages/torch/lib|--version|a b|"
expect "PTQ_TORCH_ROOT" "$(run env PTQ_TORCH_ROOT="$temp/other/lib/python3.97/site-packages/torch")" \
  "$temp/other/lib/python3.97/site-packages/torch/lib|--version|a b|"

# `pip install --target` has no lib/python3: the packages lie beside bin/.
installation target
torch target/torch "$version.0"
expect "torch of pip --target" "$(run target)" "$temp/target/torch/lib|--version|a b|"

# An archive of libtorch has no version.py.
mkdir -p archive/lib && : >archive/lib/libtorch_cpu.so && echo "$version.0+cpu" >archive/build-version
expect "an archive of libtorch" "$(run env PTQ_TORCH_ROOT="$temp/archive")" "$temp/archive/lib|--version|a b|"

# What `cmake --install` writes, and a libtorch installed with the program.
echo "$temp/archive" >env/lib/quantize/torch-root
expect "the libtorch built with" "$(run env)" "$temp/archive/lib|--version|a b|"
: >env/lib/quantize/libtorch_cpu.so
expect "a bundled libtorch" "$(run env)" "|--version|a b|"
rm env/lib/quantize/libtorch_cpu.so env/lib/quantize/torch-root

# refused WHAT TEXT... -- RUN...: exit code 1, and a message that holds every text.
refused() {
  local what=$1 said code=0 text texts=()
  shift
  while [[ $1 != -- ]]; do
    texts+=("$1")
    shift
  done
  said=$("${@:2}") || code=$?
  expect "$what: exit code" "$code" 1
  for text in "${texts[@]}"; do [[ $said == *"$text"* ]] || fail "$what: no \"$text\" in: $said"; done
}
rm -rf home
refused "PTQ_TORCH_ROOT without libtorch" "error: PTQ_TORCH_ROOT: $temp/home holds no lib/libtorch_cpu.so" \
  "needs libtorch $version" -- run env PTQ_TORCH_ROOT="$temp/home"
torch old 1.0.0
refused "PTQ_TORCH_ROOT of another version" "$temp/old is version 1.0.0" "needs libtorch $version" \
  "try: pip install 'torch==$version.*'" -- run env PTQ_TORCH_ROOT="$temp/old"
if ! compgen -G '/usr/lib*/python3*/*-packages/torch' >/dev/null &&
  ! compgen -G '/usr/local/lib*/python3*/*-packages/torch' >/dev/null; then
  refused "only another version" "only others were found" "found: version ${version}1.0 in $temp/$site/torch" \
    "try: pip install 'torch==$version.*'" -- run env
  rm -rf "$site"
  refused "no torch at all" "no torch package was found" "try: pip install 'torch==$version.*'" -- run env
fi
rm env/lib/quantize/quantize
refused "no program" "$temp/env/lib/quantize/quantize: is missing" "try: install quantize again" -- run env
