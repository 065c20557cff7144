#!/usr/bin/env bash
# compressed_tensors_test.sh QUANTIZE DATA DIR: what is exported as compressed-tensors, loaded by transformers, gives the
# perplexity that this program computes, and so does what the library itself writes. DATA is tests/data. Installs
# transformers, compressed-tensors and peft into DIR/env (with the libtorch of the project's .venv, if there is one); exits
# with 77, which CTest counts as skipped, if they cannot be installed.
set -euo pipefail
quantize=$1 data=$2 work=$3
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

# shellcheck source=tests/slow/python_env.sh
source "$here/python_env.sh"
python_env "$work" "accelerate, compressed_tensors, peft, transformers" transformers compressed-tensors accelerate peft numpy

cd "$work"
find . -mindepth 1 -maxdepth 1 ! -name env ! -name pip.log -exec rm -rf {} +
text="$data/shakespeare-eval.txt"
llama="$data/llama-1m" mamba="$data/mamba-1m/model.pt"
calibrated=(--calib "$data/shakespeare-calib.txt" --samples 16 --seq-len 128)

names=()
# measure DIR NAME: what this program says of DIR, as NAME.json.
measure() {
  "$quantize" eval "$1" --text "$text" --seq-len 128 --max-tokens 1024 --json --quiet > "$2.json"
  names+=("$2")
}
# make MODEL NAME OPTION...: quantizes, exports as ct-NAME, and measures that, or NAME if corrections go beside it.
make() {
  local model=$1 name=$2
  shift 2
  "$quantize" "$model" "$@" -o "$name" --quiet > /dev/null
  "$quantize" export "$name" --format compressed-tensors -o "ct-$name" > /dev/null
  local whole="ct-$name"
  if [[ -d ct-$name-adapter ]]; then whole=$name; fi
  measure "$whole" "ct-$name"
}
# recipe NAME FIELDS: a recipe of one rounding.
recipe() {
  echo "{\"method\": \"rtn\", \"bits\": \"\", \"steps\": [{\"step\": \"rtn\", $2}], \"samples\": 16, \"seq_len\": 128}" > "$1.recipe"
}

make "$llama" w8a8 --method rtn --bits w8a8
make "$llama" gptq-w8a8 --method gptq --bits w8a8 --set gptq.symmetric=true "${calibrated[@]}"
make "$llama" smoothquant --method smoothquant --bits w8a8 "${calibrated[@]}"
make "$llama" w8a16 --method rtn --bits w8a16
make "$llama" w4a16-g128 --method gptq --bits w4a16 --set gptq.symmetric=true "${calibrated[@]}"
make "$llama" w4a16-g128-asym --method gptq --bits w4a16 "${calibrated[@]}"
make "$llama" w4a16-g32 --method rtn --bits w4a16 --set rtn.group=32
make "$llama" w4a16-g32-asym --method gptq --bits w4a16 --set gptq.group=32 "${calibrated[@]}"
recipe w3 '"bits": 3, "granularity": "group", "group": 32'
recipe w2 '"bits": 2, "granularity": "group", "group": 32, "symmetric": false'
recipe mxint4 '"bits": 4, "format": "mxint"'
recipe w4a8 '"bits": 4, "granularity": "group", "group": 32}, {"step": "activations", "bits": 8, "scales": "dynamic", "sites": ["linear_inputs"]'
make "$llama" corrected --method qera --base int4-g32 --rank 4 "${calibrated[@]}"
for name in w3 w2 mxint4 w4a8; do make "$llama" $name --recipe $name.recipe; done
make "$mamba" quamba --method quamba "${calibrated[@]}"
make "$mamba" mamba-w8a8 --method rtn --bits w8a8
make "$mamba" mamba-w4a16 --method gptq --bits w4a16 "${calibrated[@]}"

# What the library writes itself, this program opens.
"$python" "$here/write_compressed_tensors.py" "$llama" > /dev/null 2> write.log
for name in library-*; do measure "$name" "$name"; done

check="$here/check_compressed_tensors.py"
"$quantize" tokenize "$llama" --text "$text" --no-special > llama.ids
"$quantize" tokenize --tokenizer "$data/mamba-1m/tokenizer.json" --text "$text" --no-special > mamba.ids
"$python" "$check" mamba.ids ct-quamba ct-mamba-w8a8 ct-mamba-w4a16
others=()
for name in "${names[@]}"; do [[ $name == *quamba* || $name == *mamba* ]] || others+=("$name"); done
"$python" "$check" llama.ids "${others[@]}"

# Models of random weights of the other architectures that the table of runtimes lists.
text=families.npy names=()
"$python" -c 'import json, numpy
ids = numpy.random.default_rng(0).integers(0, 160, 512)
numpy.save("families.npy", ids)
json.dump(ids.tolist(), open("families.ids", "w"))'
for name in bamba falcon-h1 falcon-mamba gemma2 gemma3 gpt-neox granite granite4-dense mamba2 olmo2 opt phi3-short stablelm; do
  make "$here/../golden/models/families/$name" "$name" --method rtn --bits w8a16
done
"$python" "$check" families.ids "${names[@]}"
