# shellcheck shell=bash
# What the tests of scripts share, to be sourced: a folder of their own to work in, and how they fail.
temp=$(realpath "$(mktemp -d)")
trap 'rm -rf "$temp"' EXIT
cd "$temp"

# fail WORDS: says why, and ends the test.
fail() {
  printf 'FAILED: %s\n' "$*" >&2
  exit 1
}
