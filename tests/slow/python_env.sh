# Sourced by the tests that load outputs by other programs.

# python_env DIR MODULES PACKAGES...: an environment in DIR/env that imports MODULES ("a, b"); PACKAGES are installed into it
# if it does not. Sets `python`. Exits with 77, which CTest counts as skipped, if they cannot be installed.
python_env() {
  local work=$1 modules=$2 env="$1/env"
  shift 2
  mkdir -p "$work"
  python="$env/bin/python"
  if [[ ! -x $python ]]; then python3 -m venv "$env"; fi
  # The libtorch of the project's .venv, if there is one.
  local root site
  root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
  for site in "$root"/.venv/lib/python3*/site-packages; do
    if [[ -d $site ]]; then echo "$site" > "$(echo "$env"/lib/python3*/site-packages)/project.pth"; fi
  done
  if "$python" -c "import $modules" 2> /dev/null; then return; fi
  "$env/bin/pip" install --quiet "$@" > "$work/pip.log" 2>&1 || { echo "$modules cannot be installed"; exit 77; }
}
