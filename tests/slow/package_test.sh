#!/usr/bin/env bash
# package_test.sh BUILD DATA DIR: the packages that scripts/package.sh makes of BUILD, each installed as a user does and
# run on a model: a wheel in a fresh environment, a tarball in a folder of its own, a .deb in a bare Debian, or unpacked
# where that cannot be made. Exits with 77, which CTest counts as skipped, if pip cannot install torch.
set -euo pipefail
build=$1 data=$2 work=$3
tree="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
rm -rf "$work/run"
mkdir -p "$work/packages" "$work/run"
work=$(realpath "$work")

fail() {
  printf 'FAILED: %s\n' "$*" >&2
  exit 1
}

# package ARGUMENTS...: makes a package and prints its path.
package() {
  "$tree/scripts/package.sh" "$@" --build "$build" --output "$work/packages" 2>"$work/package.log" | tail -n 1 ||
    { cat "$work/package.log" >&2 && fail "package.sh $*"; }
}

# works QUANTIZE...: the program that the command starts says its version, quantizes and verifies, with nothing of this
# machine in its environment.
works() {
  local clean=(env -i PATH=/usr/bin:/bin HOME="$work/run" OMP_WAIT_POLICY=passive)
  "${clean[@]}" "$@" --version | grep -q '^quantize .*libtorch' || fail "$* --version"
  rm -rf "$work/run/out"
  "${clean[@]}" "$@" --method rtn "$data/llama-1m" -o "$work/run/out" --quiet >/dev/null || fail "$* --method rtn"
  "${clean[@]}" "$@" verify "$work/run/out" --source "$data/llama-1m" --quiet >/dev/null || fail "$* verify"
}

# has PREFIX: what belongs to the program beside it.
has() {
  local file
  for file in share/man/man1/quantize.1.gz share/bash-completion/completions/quantize \
    share/zsh/site-functions/_quantize share/fish/vendor_completions.d/quantize.fish \
    share/quantize/configs/quamba-w8a8.json; do
    [[ -s $1/$file ]] || fail "$1 has no $file"
  done
}

test_wheel() {
  local wheel env=$work/env torch
  wheel=$(package wheel)
  rm -rf "$env"
  python3 -m venv "$env"
  "$env/bin/pip" install --quiet "$wheel" >"$work/pip.log" 2>&1 || { echo "torch cannot be installed" && exit 77; }
  has "$env"
  works "$env/bin/quantize"
  # Without torch, and with another version, it says what is missing.
  torch=$(echo "$env"/lib/python3*/site-packages/torch)
  mv "$torch" "$work/run/torch"
  if ! env -i "$env/bin/quantize" --version >"$work/run/said" 2>&1; then
    grep -q 'needs libtorch' "$work/run/said" || fail "without torch: $(<"$work/run/said")"
  fi
  mv "$work/run/torch" "$torch"
  "$env/bin/pip" uninstall --quiet --yes quantize >>"$work/pip.log" 2>&1
  [[ ! -e $env/bin/quantize && ! -e $env/lib/quantize/quantize ]] || fail "pip uninstall leaves files"
  echo "wheel: in order"
}

test_tarball() {
  local tarball folder="$work/run/a folder"
  tarball=$(package tarball --bundle)
  mkdir "$folder"
  tar -xzf "$tarball" -C "$folder" --strip-components=1
  has "$folder"
  works "$folder/bin/quantize"
  mv "$folder" "$folder 2"
  works "$folder 2/bin/quantize"
  # Nothing but what every Linux has is taken from outside.
  if ldd "$folder 2/lib/quantize/quantize" |
    grep -vE "a folder 2|linux-vdso|ld-linux|lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s)\.so"; then
    fail "the tarball needs other libraries"
  fi
  echo "tarball: in order"
}

test_deb() {
  local deb root=$work/root
  deb=$(package deb --bundle)
  if command -v lintian >/dev/null; then
    lintian --fail-on error --allow-root "$deb" || fail "lintian finds errors in $deb"
  fi
  if ((EUID == 0)) && command -v debootstrap >/dev/null && make_root "$root"; then
    install_deb "$root" "$deb"
    has "$root/usr"
    rm -rf "$root/data" && mkdir "$root/data" && cp -r "$data/llama-1m" "$root/data/"
    in_root "$root" quantize --method rtn /data/llama-1m -o /data/out --quiet >/dev/null || fail "quantize of the .deb"
    in_root "$root" quantize verify /data/out --source /data/llama-1m --quiet >/dev/null || fail "verify of the .deb"
    in_root "$root" dpkg --purge quantize >/dev/null
    [[ ! -e $root/usr/bin/quantize && ! -e $root/usr/lib/quantize ]] || fail "dpkg --purge leaves files"
    echo "deb: in order, installed in a bare Debian"
  else
    dpkg-deb -x "$deb" "$work/run/deb"
    has "$work/run/deb/usr"
    works "$work/run/deb/usr/bin/quantize"
    echo "deb: in order, unpacked"
  fi
}

# A bare system of this machine's release, kept for the next run.
make_root() {
  local suite
  if [[ -x $1/usr/bin/apt-get ]]; then return; fi
  suite=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")
  debootstrap --variant=minbase "$suite" "$1" >"$work/debootstrap.log" 2>&1 || { rm -rf "$1" && return 1; }
}

# in_root ROOT COMMAND...: with /proc, which goes away with the command.
in_root() {
  # shellcheck disable=SC2016  # expanded by the shell that is started
  unshare --mount bash -c 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"' "$@"
}

install_deb() {
  cp "$2" "$1/quantize.deb"
  in_root "$1" apt-get install -y --no-install-recommends /quantize.deb >"$work/apt.log" 2>&1 ||
    { tail "$work/apt.log" >&2 && fail "apt-get install of the .deb"; }
  rm "$1/quantize.deb"
}

test_tarball
test_deb
test_wheel
