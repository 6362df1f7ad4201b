#!/usr/bin/env bash
# The program alone, as --component inference installs it, in a directory tree without LibTorch: it
# generates, scores and quantizes, and says what it lacks where it is asked to train.
#
#   tests/scripts/inference_test.sh SOURCE_DIR BUILD_DIR CMAKE
#
# With RWKVX_LONG_TESTS also the suites of tests/cli that generate and score.
set -uo pipefail
source_dir=$1 build_dir=$2 cmake=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
fail() {
  printf 'FAILED: %s\n' "$*"
  failures=$((failures + 1))
}

"$cmake" --install "$build_dir" --component inference --prefix "$work/prefix" >"$work/log" 2>&1 ||
  { cat "$work/log"; exit 1; }
program=$work/prefix/bin/rwkvx
[[ $(cd "$work/prefix" && find . -type f) == ./bin/rwkvx ]] || fail "expected one file, got $(find "$work/prefix" -type f)"
# Without the addresses, in which any letters may come.
ldd "$program" | sed 's/ (0x[0-9a-f]*)$//' >"$work/ldd" || fail "ldd $program"
grep -E 'torch|c10|gomp|not found' "$work/ldd" && fail "the program is linked to that"

# run WHAT STATUS PATTERN args…: ends with the status and prints the pattern on either stream.
run() {
  local what=$1 status=$2 pattern=$3 got
  shift 3
  "$program" "$@" >"$work/out" 2>&1 </dev/null
  got=$?
  [[ $got == "$status" ]] || fail "$what: exit status $got, expected $status: $(head -n 3 "$work/out")"
  grep -qE "$pattern" "$work/out" || fail "$what: expected $pattern, got $(head -n 3 "$work/out")"
}

for ((byte = 0; byte < 256; ++byte)); do printf "%d b'\\\\x%02x' 1\n" $((byte + 1)) "$byte"; done >"$work/world.txt"
"$(command -v python3)" - "$work/model.safetensors" <<'PYTHON' || fail "writing a model"
import json, random, struct, sys

C, V, F = 16, 65536, 64
rows = {"emb.weight": (V, C), "head.weight": (V, C)}
for name in ("blocks.0.ln0", "blocks.0.ln1", "blocks.0.ln2", "ln_out"):
    rows[name + ".weight"] = rows[name + ".bias"] = (C,)
for name in ("time_decay", "time_first"):
    rows["blocks.0.att." + name] = (C,)
for part, names in (("att", "kvr"), ("ffn", "kr")):
    for name in names:
        rows[f"blocks.0.{part}.time_mix_{name}"] = (1, 1, C)
for name in ("key", "value", "receptance", "output"):
    rows[f"blocks.0.att.{name}.weight"] = (C, C)
rows |= {"blocks.0.ffn.key.weight": (F, C), "blocks.0.ffn.receptance.weight": (C, C), "blocks.0.ffn.value.weight": (C, F)}
random.seed(1)
header, body = {}, b""
for name, shape in rows.items():
    count = 1
    for size in shape:
        count *= size
    some = [random.gauss(0, 0.3) for _ in range(min(count, 1031))]
    values = struct.pack(f"<{count}f", *(some * (count // len(some) + 1))[:count])
    header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(body), len(body) + len(values)]}
    body += values
text = json.dumps(header).encode()
with open(sys.argv[1], "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text + body)
PYTHON
printf 'The bird sings.\n' >"$work/text.txt"
printf '{"prediction": "a bird sings", "reference": "the bird sings"}\n' >"$work/pairs.jsonl"
model=(--model "$work/model.safetensors" --tokenizer "$work/world.txt")

run version 0 '^rwkvx ' --version
run help 0 'Train a model' --help
run generate 0 '"tokens":5' generate "${model[@]}" --prompt bird --max-new-tokens 5 --samples 2 --ignore-end --seed 1
run eval 0 'rougeL' eval --pairs "$work/pairs.jsonl"
run encode 0 '^85 105' tokenizer encode --tokenizer "$work/world.txt" --input "$work/text.txt"
run info 0 'parameters' info --model "$work/model.safetensors"
for command in train inspect study 'bench train'; do
  # shellcheck disable=SC2086  # two words
  run "$command" 2 'librwkvx_torch.so' $command
done
run device 2 'cuda' generate "${model[@]}" --prompt bird --device cuda
# The commands' own suites with this program; models are trained by the whole one.
if [[ -n ${RWKVX_LONG_TESTS:-} ]]; then
  suites='ModelCommands.*:GenerateFiles.*:EngineCommands.*:Eval*:ShellCommands.*:ForeignFiles.*:*AdapterCommand*'
  RWKVX_INFERENCE_PROGRAM=$program "$build_dir/tests/cli_tests" --gtest_filter="$suites" >"$work/suites" 2>&1 ||
    { grep -A 8 'Failure$' "$work/suites"; fail "suites of tests/cli"; }
  tail -n 3 "$work/suites"
fi
((failures == 0)) || exit 1
echo "the program generates and scores without LibTorch"
