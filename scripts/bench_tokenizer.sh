#!/usr/bin/env bash
# bench_tokenizer.sh [TOKENIZER.json [TEXT [RUNS]]]: encodes TEXT as one string with our tokenizer and with the Python
# package `tokenizers`, each on one thread, and prints both speeds and their ratio. "cold" is a tokenizer read anew for
# each run (reading is not timed), "warm" one that has seen the text. Both must give the same ids.
#
# The package is taken from, or installed into, the virtual environment $PTQ_BENCH_VENV (default build/bench-venv).

set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit 0
fi
tokenizer=$(realpath "${1:-$here/../tests/golden/tokenizer/mamba-4m.json}")
text=$(realpath "${2:-$here/../tests/data/shakespeare-calib.txt}")
runs=${3:-9}
# shellcheck source=scripts/lib.sh
source "$here/lib.sh"

program=${PTQ_BENCH_PROGRAM:-build/tools/bench_tokenizer}
[[ -x $program ]] || die "$program is missing: cmake --preset release && cmake --build --preset release"

venv=${PTQ_BENCH_VENV:-build/bench-venv}
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/python" -c 'import tokenizers' 2>/dev/null || "$venv/bin/pip" install --quiet tokenizers

ours=$("$program" "$tokenizer" "$text" "$runs")
theirs=$(RAYON_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false "$venv/bin/python" - "$tokenizer" "$text" "$runs" <<'PYTHON'
import statistics, sys, time
import tokenizers

path, text_path, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
data = open(text_path, "rb").read()
text = data.decode("utf-8", "replace")
times = {"cold": [], "warm": []}
for _ in range(runs):
    tokenizer = tokenizers.Tokenizer.from_file(path)
    for kind in ("cold", "warm"):
        start = time.perf_counter()
        encoding = tokenizer.encode(text, add_special_tokens=False)
        times[kind].append(time.perf_counter() - start)
ids = encoding.ids
cold, warm = (len(data) / 1e6 / statistics.median(times[kind]) for kind in ("cold", "warm"))
checksum = sum((i + 1) * token for i, token in enumerate(ids)) % 2**32
print(f"cold {cold:.2f} MB/s, warm {warm:.2f} MB/s, {len(ids)} tokens, checksum {checksum}")
print(tokenizers.__version__)
PYTHON
)

version=$(tail -n 1 <<<"$theirs")
theirs=$(head -n 1 <<<"$theirs")
printf 'ours:              %s\n' "$ours"
printf 'tokenizers %s: %s\n' "$version" "$theirs"
[[ ${ours#*s, *s, } == "${theirs#*s, *s, }" ]] || die "the ids differ"
paste -d ' ' <(tr -d , <<<"$ours") <(tr -d , <<<"$theirs") |
  awk '{printf "ratio:             cold %.1fx, warm %.1fx\n", $2 / $12, $5 / $15}'
