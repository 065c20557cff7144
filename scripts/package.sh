#!/usr/bin/env bash
# package.sh wheel | deb | tarball [--bundle] [--build DIR] [--output DIR]: builds the program and makes a package of it.
#
#   wheel    quantize-VERSION-py3-none-manylinux_*.whl: `pip install` puts `quantize` on the PATH, and torch beside it
#   deb      quantize_VERSION_ARCH.deb
#   tarball  quantize-VERSION-linux-ARCH.tar.gz: runs wherever it is unpacked
#
#   --bundle      the package holds libtorch (a CPU build). Without it, and in a wheel always, the program looks for a
#                 torch package of the version that it was built with when it starts: in the environment it lies in, in
#                 $VIRTUAL_ENV, of the user, of the system, or in $PTQ_TORCH_ROOT
#   --build DIR   the build folder (default: build); it is brought up to date first
#   --output DIR  where the package goes (default: DIR/packages of the build folder)
#
# Environment: DEBFULLNAME and DEBEMAIL, the maintainer of a .deb (default: that of scripts/package/changelog).
# SOURCE_DATE_EPOCH, the time of every file in the package (default: that of the commit). The last line that is printed
# is the path of the package.

set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
called_in=$PWD
# shellcheck source=scripts/lib.sh
source "$here/lib.sh"

kind=
bundle=0
build=$PTQ_SOURCE/build
output=

usage_error() {
  say "package.sh: $*; see --help"
  exit 2
}

while (($# > 0)); do
  case $1 in
    -h | --help)
      help_of "${BASH_SOURCE[0]}"
      exit 0
      ;;
    wheel | deb | tarball)
      [[ -z $kind ]] || usage_error "one package at a time: $kind or $1"
      kind=$1
      ;;
    --bundle) bundle=1 ;;
    --build | --output)
      (($# > 1)) || usage_error "$1 needs a value"
      if [[ $1 == --build ]]; then build=$(cd "$called_in" && realpath -m "$2"); fi
      if [[ $1 == --output ]]; then output=$(cd "$called_in" && realpath -m "$2"); fi
      shift
      ;;
    *) usage_error "unknown argument $1" ;;
  esac
  shift
done
[[ -n $kind ]] || usage_error "which package? wheel, deb or tarball"
if [[ $kind == wheel ]] && ((bundle)); then
  usage_error "a wheel holds no libtorch: pip installs the package torch with it. Leave --bundle out"
fi
output=${output:-$build/packages}

# Reproducible: the same commit gives the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
umask 022

if [[ ! -e $build/build.ninja ]]; then run cmake --preset release -B "$build" >&2; fi
run cmake --build "$build" --target quantize quantize_launcher shell_files debian_files -j "$(build_jobs)" >&2
mkdir -p "$output"
if ((bundle)) && [[ ! -e $build/torch-may-be-bundled ]]; then
  die "the libtorch of $build is a CUDA build, whose libraries lie in a dozen packages; only CPU builds are bundled." \
    "Leave --bundle out, or configure with PTQ_TORCH_ROOT set to one"
fi

# Puts the given components of the installation below $stage.
install_components() {
  local component
  for component in "$@"; do
    run cmake --install "$build" --prefix "$stage" --component "$component" --strip >/dev/null
  done
}

# The libraries of the system that the program needs, each under the one name that the loader asks for: a wheel has no
# links.
install_libraries() {
  local file
  install_components libraries
  for file in "$stage"/lib/quantize/*.so*; do
    if [[ -L $file ]]; then mv -f "$(realpath "$file")" "$file"; fi
  done
  install_licences
}

# The licences of the libraries that were copied from the system, beside the program's own.
install_licences() {
  local file package documents=$stage/share/doc/quantize
  cp LICENSE "$documents/"
  for file in "$stage"/lib/quantize/*.so*; do
    [[ -e $file && ! -e $(<"$build/torch-root")/lib/${file##*/} ]] || continue
    package=$(dpkg-query -S "*/${file##*/}" 2>/dev/null | head -n 1 | sed 's/:.*//') || true
    [[ -r /usr/share/doc/$package/copyright ]] || die "no licence was found for the library ${file##*/}"
    cp "/usr/share/doc/$package/copyright" "$documents/copyright.$package"
  done
}

version=$(sed -n 's/^Version: //p' "$build/METADATA")
components=(program share)
if ((bundle)); then components+=(torch); fi
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"

case $kind in
  wheel)
    install_components "${components[@]}"
    install_libraries
    python3 "$here/package/make_wheel.py" "$stage" "$build/METADATA" "$output"
    ;;
  tarball)
    name=quantize-$version-linux-$(uname -m)
    install_components "${components[@]}"
    install_libraries
    tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$stage" \
      --transform="s|^\.|$name|" -c . | gzip -n >"$output/$name.tar.gz"
    printf '%s\n' "$output/$name.tar.gz"
    ;;
  deb)
    have dpkg-shlibdeps || die "dpkg-shlibdeps is missing: apt-get install dpkg-dev"
    maintainer=$(sed -n 's/^ -- \(.*>\).*/\1/p;T;q' "$here/package/changelog")
    if [[ -n ${DEBEMAIL:-} ]]; then maintainer="${DEBFULLNAME:-$DEBEMAIL} <$DEBEMAIL>"; fi
    parts=$(IFS=';' && printf '%s' "${components[*]};debian")
    run cpack --config "$build/CPackConfig.cmake" -G DEB -B "$stage" -D "CPACK_COMPONENTS_ALL=$parts" \
      -D "CPACK_DEBIAN_PACKAGE_MAINTAINER=$maintainer" >&2
    file=$(echo "$stage"/*.deb)
    cp "$file" "$output/"
    printf '%s\n' "$output/${file##*/}"
    ;;
esac
