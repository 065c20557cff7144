#!/usr/bin/env bash
# setup.sh [--checks] [--fuzz]: installs what building needs and is missing. Quick when everything is there.
#
#   --checks  also what only checks and tests use: clang-format-19, clang-tidy-19, and the shells and groff whose
#             tests are skipped without them
#   --fuzz    also clang-19 with libFuzzer
#
# Packages come from apt-get, as root or by sudo; where neither is possible the line to run is printed.
# libtorch is, in this order: $PTQ_TORCH_ROOT (a folder with include/ and lib/); the torch package, 2.13 or newer, of
# .venv or of the python3 on the PATH; otherwise torch is installed into .venv with pip. Where pip's default package
# index brings a CUDA build of several gigabytes, $PTQ_TORCH_INDEX may name an index with CPU builds.

set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=scripts/lib.sh
source "$here/lib.sh"

torch_version=2.13.0
packages=(g++ cmake ninja-build pkg-config python3-venv ccache libcli11-dev nlohmann-json3-dev libspdlog-dev
  libfmt-dev libgtest-dev libonig-dev libutf8proc-dev zlib1g-dev libssl-dev)
optional=()
for argument in "$@"; do
  case $argument in
    --checks) optional+=(clang-format-19 clang-tidy-19 fish zsh groff-base) ;;
    --fuzz) optional+=(clang-19 libclang-rt-19-dev) ;;
    -h | --help)
      help_of "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *)
      say "setup.sh: unknown option $argument; see --help"
      exit 2
      ;;
  esac
done

# Those of the given packages that are not installed, one a line.
missing_of() {
  local name
  for name in "$@"; do
    if [[ $(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null) != installed ]]; then printf '%s\n' "$name"; fi
  done
}

# Runs apt-get with the rights it needs; fails where there are none.
apt() {
  if ((EUID == 0)); then
    DEBIAN_FRONTEND=noninteractive apt-get "$@"
  elif have sudo && { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; then
    sudo DEBIAN_FRONTEND=noninteractive apt-get "$@"
  else
    return 1
  fi
}

install_packages() {
  local missing=() line
  mapfile -t missing < <(missing_of "${packages[@]}" "${optional[@]}")
  if ((${#missing[@]} == 0)); then return; fi
  say "missing packages: ${missing[*]}"
  line="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
  apt update -q >&2 || die "these packages are missing; run as root: $line"
  # An older release has no clang 19. The checks that want it are then left out; the build does not need it.
  local wanted=() name
  for name in "${missing[@]}"; do
    if [[ " ${optional[*]} " == *" $name "* && -z $(apt-cache show "$name" 2>/dev/null) ]]; then
      say "warning: this system has no package $name; the checks that need it are left out"
    else
      wanted+=("$name")
    fi
  done
  if ((${#wanted[@]} == 0)); then return; fi
  apt install -y -q --no-install-recommends "${wanted[@]}" >&2 || die "apt-get failed; run as root: $line"
}

# The folder of the torch package of a Python, if it is new enough. torch is not imported: that takes seconds.
torch_of() {
  "$1" - "$torch_version" 2>/dev/null <<'PYTHON'
import importlib.metadata, importlib.util, sys
numbers = lambda version: [int(n) for n in version.split("+")[0].split(".")[:2]]
if numbers(importlib.metadata.version("torch")) < numbers(sys.argv[1]):
    sys.exit(1)
print(importlib.util.find_spec("torch").submodule_search_locations[0])
PYTHON
}

install_torch() {
  local root
  if [[ -n ${PTQ_TORCH_ROOT:-} ]]; then
    [[ -e $PTQ_TORCH_ROOT/include/ATen/ATen.h ]] || die "PTQ_TORCH_ROOT=$PTQ_TORCH_ROOT holds no include/ATen/ATen.h"
    say "libtorch: $PTQ_TORCH_ROOT (PTQ_TORCH_ROOT)"
    return
  fi
  for python in .venv/bin/python3 python3; do
    if have "$python" && root=$(torch_of "$python"); then
      say "libtorch: $root"
      return
    fi
  done
  if [[ -n ${PTQ_TORCH_INDEX:-} ]]; then
    say "downloading torch $torch_version from $PTQ_TORCH_INDEX into .venv: about 200 MB for a CPU build, 1 GB on disk"
  else
    say "downloading torch $torch_version into .venv: about 200 MB for a CPU build, several GB if pip's default index"
    say "brings a CUDA build (then set PTQ_TORCH_INDEX to an index with CPU builds, if no GPU is to be used)"
  fi
  if [[ ! -x .venv/bin/python3 ]]; then python3 -m venv .venv; fi
  .venv/bin/python3 -m pip install --disable-pip-version-check ${PTQ_TORCH_INDEX:+--index-url "$PTQ_TORCH_INDEX"} \
    "torch==$torch_version" >&2 || die "pip could not install torch $torch_version; see above, or set PTQ_TORCH_ROOT"
  root=$(torch_of .venv/bin/python3) || die "torch was installed into .venv but is not there"
  say "libtorch: $root"
}

if have apt-get && have dpkg-query; then
  install_packages
else
  say "warning: no apt-get here; install the counterparts of: ${packages[*]}"
fi
install_torch
