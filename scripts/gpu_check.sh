#!/usr/bin/env bash
# Builds on a machine with a GPU and checks all that needs one: tests, the kernels of `cuda` against
# `reference`, compute-sanitizer on a short run, benchmarks. Writes FOLDER/gpu_check.json and .txt.
#   scripts/gpu_check.sh [--packages FOLDER] [--out FOLDER] [--only tests,sanitizer,bench] [--jobs N]
# --packages: Debian packages by scripts/gpu_packages.sh, for machines without a network; else the
# libraries must be installed (scripts/setup.sh). --out: default build/gpu_check.
# Needs no root. Ends with 0 only if everything passed; a part that fails does not stop the others.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

packages="" out=build/gpu_check only=tests,sanitizer,bench jobs=$(nproc)
while [ $# -gt 0 ]; do
  case "$1" in
    --packages) packages=${2:?--packages needs a folder}; shift 2 ;;
    --out) out=${2:?--out needs a folder}; shift 2 ;;
    --only) only=${2:?--only needs a list}; shift 2 ;;
    --jobs) jobs=${2:?--jobs needs a number}; shift 2 ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "gpu_check.sh: unknown argument $1; try --help" >&2; exit 2 ;;
  esac
done
mkdir -p "$out"
out=$(cd "$out" && pwd)
build=build/gpu parts=$out/parts.jsonl
: > "$parts"

if ! command -v nvidia-smi > /dev/null || ! nvidia-smi -L > "$out/devices.txt" 2>&1; then
  echo "gpu_check.sh: no GPU here (nvidia-smi does not answer). CPU tests: scripts/test.sh" >&2
  exit 1
fi

part() {  # part NAME COMMAND…: runs, keeps the output, notes how it ended
  local name=$1 start=$SECONDS status=0
  shift
  printf '%-24s ' "$name"
  "$@" > "$out/$name.log" 2>&1 || status=$?
  printf '%s, %d s\n' "$([ $status -eq 0 ] && echo passed || echo "FAILED ($status): $out/$name.log")" \
    $((SECONDS - start))
  printf '{"part":"%s","status":%d,"seconds":%d,"command":"%s"}\n' "$name" $status \
    $((SECONDS - start)) "${*//\"/\\\"}" >> "$parts"
  return $status
}
wants() { [[ ",$only," == *",$1,"* ]]; }

options=(-DCMAKE_BUILD_TYPE=Release -DACCRUE_CUDA=ON)
if [ -n "$packages" ]; then
  prefix=$PWD/$build/packages
  mkdir -p "$prefix"
  for package in "$packages"/*.deb; do
    dpkg-deb -x "$package" "$prefix" || { echo "gpu_check.sh: cannot unpack $package" >&2; exit 1; }
  done
  libraries=$(dirname "$(find "$prefix/usr/lib" -name 'libdnnl.so' | head -1)")
  export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  options+=("-DCMAKE_PREFIX_PATH=$prefix/usr;$libraries/cmake" "-DXXHASH_INCLUDE_DIR=$prefix/usr/include")
fi
command -v ninja > /dev/null && options+=(-G Ninja)

part configure cmake -S . -B "$build" "${options[@]}" || { tail -20 "$out/configure.log"; exit 1; }
part build cmake --build "$build" -j "$jobs" || { tail -20 "$out/build.log"; exit 1; }
bin=$build/bin

# A text for the programs: none is needed from outside.
text=$out/text.txt
cat docs/tutorial/*.md autograd/*.h core/*.h > "$text"

if wants tests; then
  part tests ctest --test-dir "$build" --output-on-failure
  part kernels_against_reference "$bin/test_cuda" --duration=true
fi
if wants sanitizer; then
  short=("$bin/train_gpt" --device cuda --data "$text" --layers 2 --heads 2 --width 64 --context 32
         --micro-batch 2 --effective-batch 5 --steps 2 --eval-batches 1 --dropout 0.1)
  for tool in memcheck racecheck initcheck synccheck; do
    part "sanitizer_$tool" compute-sanitizer --tool "$tool" --error-exitcode 9 "${short[@]}"
  done
fi
if wants bench; then
  # Tokens per second of whole training steps; the first steps set the device up.
  train=("$bin/train_gpt" --device cuda --data "$text" --eval-interval 1000 --eval-batches 1)
  part train_width768_bf16 "${train[@]}" --layers 12 --heads 12 --width 768 --context 1024 \
    --micro-batch 32 --effective-batch 64 --steps 8 --dtype bf16
  part train_width128 "${train[@]}" --layers 4 --heads 4 --width 128 --context 64 \
    --micro-batch 12 --effective-batch 12 --steps 200
  part train_width384_bf16 "${train[@]}" --layers 6 --heads 6 --width 384 --context 256 \
    --micro-batch 64 --effective-batch 64 --steps 50 --dtype bf16 --dropout 0.2
fi

python3 - "$out" <<'PYTHON'
import json, pathlib, sys

out = pathlib.Path(sys.argv[1])
parts = [json.loads(line) for line in (out / "parts.jsonl").read_text().splitlines()]
for part in parts:
    log = (out / (part["part"] + ".log")).read_text(errors="replace").splitlines()
    try:  # the programs' last line is their result
        part["result"] = json.loads(log[-1])
    except (IndexError, ValueError):
        part["tail"] = log[-5:]
report = {"devices": (out / "devices.txt").read_text().splitlines(), "parts": parts}
(out / "gpu_check.json").write_text(json.dumps(report, indent=1) + "\n")
lines = report["devices"] + [f"{p['part']:26} {'passed' if p['status'] == 0 else 'FAILED':7} {p['seconds']:5} s"
                             for p in parts]
for part in parts:
    if "tokens_per_second" in part.get("result", {}):
        lines.append(f"{part['part']:26} {part['result']['tokens_per_second']:12.0f} tokens/s")
(out / "gpu_check.txt").write_text("\n".join(lines) + "\n")
print(f"{out}/gpu_check.json and gpu_check.txt")
sys.exit(any(p["status"] for p in parts))
PYTHON
