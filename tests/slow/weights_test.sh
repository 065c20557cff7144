#!/usr/bin/env bash
# weights_test.sh QUANTIZE DATA DIR: what is exported as GPTQ, AWQ, NF4 of bitsandbytes and floats, loaded by transformers,
# gives the perplexity that this program computes, and so does what other programs write. DATA is tests/data. Installs
# transformers, bitsandbytes and peft into DIR/env (with the libtorch of the project's .venv, if there is one); exits with
# 77, which CTest counts as skipped, if they cannot be installed. GPTQ and AWQ need gptqmodel, which is installed too if
# that is possible; without it they are unpacked by a script and compared with the floats.
set -euo pipefail
quantize=$1 data=$2 work=$3
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

# shellcheck source=tests/slow/python_env.sh
source "$here/python_env.sh"
python_env "$work" "accelerate, bitsandbytes, optimum, peft, safetensors, transformers" \
  transformers bitsandbytes optimum accelerate peft safetensors numpy
# It asks for a newer libtorch than it needs, and is no wheel.
if ! "$python" -c "import gptqmodel" 2> /dev/null; then
  {
    "$work/env/bin/pip" install --quiet setuptools wheel packaging ninja pypcre device-smi tokenicer logbar datasets dill \
      threadpoolctl protobuf pillow requests defuser &&
      "$work/env/bin/pip" install --quiet --no-deps torchao &&
      "$work/env/bin/pip" install --quiet --no-deps --no-build-isolation gptqmodel
  } > "$work/pip-gptqmodel.log" 2>&1 || true
fi
gptqmodel=no
if "$python" -c "import gptqmodel" > /dev/null 2>&1; then gptqmodel=yes; fi

cd "$work"
find . -mindepth 1 -maxdepth 1 ! -name env ! -name '*.log' -exec rm -rf {} +
text="$data/shakespeare-eval.txt"
llama="$data/llama-1m" mamba="$data/mamba-1m/model.pt"
calibrated=(--calib "$data/shakespeare-calib.txt" --samples 16 --seq-len 128)

# measure DIR NAME: what this program says of DIR, as NAME.json.
measure() {
  "$quantize" eval "$1" --text "$text" --seq-len 128 --max-tokens 1024 --json --quiet > "$2.json"
}
# make MODEL NAME OPTION...: quantizes.
make() {
  local model=$1 name=$2
  shift 2
  "$quantize" "$model" "$@" -o "$name" --quiet > /dev/null
}
# export NAME FORMAT OPTION...: makes FORMAT-NAME of it, and measures that, or NAME if corrections go beside it.
export_as() {
  local name=$1 format=$2
  shift 2
  "$quantize" export "$name" --format "$format" "$@" -o "$format-$name" > /dev/null
  local whole="$format-$name"
  if [[ -d $format-$name-adapter ]]; then whole=$name; fi
  measure "$whole" "$format-$name"
}

echo '{"method": "rtn", "bits": "", "steps": [{"step": "rtn", "bits": 4, "format": "nf4"}], "samples": 16, "seq_len": 128}' > nf4.recipe
make "$llama" w4 --method gptq --bits w4a16 --set gptq.symmetric=true "${calibrated[@]}"
make "$llama" w4-zeros --method gptq --bits w4a16 "${calibrated[@]}"
make "$llama" w4-skip --method rtn --bits w4a16 --skip "*down_proj" --skip "*.1.self_attn.o_proj"
make "$llama" w8 --method rtn --bits w8a16
make "$llama" nf4 --recipe nf4.recipe --skip "*down_proj"
make "$llama" corrected --method qera --base nf4 --rank 4 --skip "*down_proj" "${calibrated[@]}"
make "$llama" corrected-w4 --method qera --base int4-g32 --rank 4 "${calibrated[@]}"
make "$mamba" nf4-mamba --recipe nf4.recipe
make "$mamba" quamba --method quamba "${calibrated[@]}"

for name in w4 w4-skip w8 corrected-w4; do export_as $name gptq; done
for name in w4 w4-zeros w4-skip corrected-w4; do export_as $name awq; done
for name in nf4 corrected nf4-mamba; do export_as $name bitsandbytes; done
for name in w4 quamba; do export_as $name float; done
export_as corrected float --outtype f32

"$python" "$here/write_weights.py" "$llama" awq-w4-zeros > /dev/null 2> write.log
for name in v2 library-nf4 library-nf4-twice; do measure $name $name; done

"$quantize" tokenize "$llama" --text "$text" --no-special > llama.ids
"$quantize" tokenize --tokenizer "$data/mamba-1m/tokenizer.json" --text "$text" --no-special > mamba.ids
for name in w4 w4-zeros w8; do
  "$quantize" export $name --format float --outtype f32 -o f32-$name > /dev/null
  "$quantize" export $name --format pt -o pt-$name.pt > /dev/null
done
"$python" "$here/check_unpacked.py" f32-w4 gptq-w4 awq-w4 pt-w4.pt
"$python" "$here/check_unpacked.py" f32-w4-zeros awq-w4-zeros v2 pt-w4-zeros.pt
"$python" "$here/check_unpacked.py" f32-w8 gptq-w8 pt-w8.pt
check="$here/check_weights.py"
"$python" "$check" llama.ids bitsandbytes-nf4 bitsandbytes-corrected library-nf4 library-nf4-twice float-w4 float-corrected
"$python" "$check" mamba.ids bitsandbytes-nf4-mamba float-quamba
if [[ $gptqmodel == yes ]]; then
  "$python" "$check" llama.ids gptq-w4 gptq-w4-skip gptq-w8 gptq-corrected-w4 awq-w4 awq-w4-zeros awq-w4-skip awq-corrected-w4 v2
else
  echo "gptqmodel cannot be installed: GPTQ and AWQ were unpacked, not loaded"
fi
