#!/usr/bin/env bash
# Builds on a machine with a GPU, checks and measures all that needs one, and writes ONE JSON and ONE
# text table, OUT/gpu_check.json and OUT/gpu_check.txt (and all output, OUT/logs.tar.gz). Needs no
# network and no root. A part that fails does not stop the others; ends with 0 only if all passed.
#   scripts/gpu_check.sh [--packages FOLDER] [--only LIST] [--text FILE] [--out FOLDER]
#                        [--continue] [--limit SECONDS] [--jobs N]
# --packages  what scripts/gpu_packages.sh brought, for machines without a network; else the
#             libraries must be installed (scripts/setup.sh)
# --only      of build,tests,table,sanitizer,bench,peers,text; commas between. Default: all.
#             build      configures and builds for this GPU
#             tests      all tests
#             table      every kernel of cuda against reference: error and repeatability
#             sanitizer  compute-sanitizer on the table and on a short training
#             bench      training against its floor, kernels against the copy bandwidth
#             peers      PyTorch's training, the same work (skipped where there is no PyTorch)
#             text       tinyshakespeare with three seeds (skipped without --text)
# --text      nanoGPT's tinyshakespeare
# --out       default: build/gpu/report
# --continue  keeps the results of earlier calls, for parts that are run one after the other
# --limit     of each program (default: 1500); one that takes longer has failed
set -uo pipefail

packages="" only=build,tests,table,sanitizer,bench,peers,text text="" out=""
limit=1500 jobs=$(nproc) keep=0
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) sed -n '2,24s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --continue) keep=1; shift; continue ;;
    --packages | --only | --text | --out | --limit | --jobs) ;;
    *) echo "gpu_check.sh: unknown argument $1; try --help" >&2; exit 2 ;;
  esac
  if [ $# -lt 2 ]; then echo "gpu_check.sh: $1 needs a value; try --help" >&2; exit 2; fi
  declare "${1#--}=$2"
  shift 2
done
for word in ${only//,/ }; do
  case "$word" in
    build | tests | table | sanitizer | bench | peers | text) ;;
    *) echo "gpu_check.sh: --only does not know $word; try --help" >&2; exit 2 ;;
  esac
done
for path in "$packages" "$text"; do
  if [ -n "$path" ] && [ ! -e "$path" ]; then
    echo "gpu_check.sh: expected $path to be there; try --help" >&2
    exit 2
  fi
done
for name in packages text out; do # as they were meant, before the folder changes
  [ -z "${!name}" ] || declare "$name=$(realpath -m "${!name}")"
done
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
out=${out:-$PWD/build/gpu/report}
if ! command -v nvidia-smi > /dev/null || ! nvidia-smi -L > /dev/null 2>&1; then
  echo "gpu_check.sh: no GPU here (nvidia-smi does not answer). CPU tests: scripts/test.sh" >&2
  exit 1
fi
for tool in cmake python3; do
  if ! command -v "$tool" > /dev/null; then
    echo "gpu_check.sh: expected $tool, found none; install it" >&2
    exit 1
  fi
done

build=build/gpu bin=build/gpu/bin results=build/gpu/results
[ $keep = 1 ] || rm -rf "$results"
mkdir -p "$results" "$out"
nvidia-smi --query-gpu=name,memory.total,driver_version,compute_cap --format=csv,noheader \
  > "$results/devices.txt" 2>&1

wants() { [[ ",$only," == *",$1,"* ]]; }
note() { # note NAME STATUS SECONDS COMMAND: what the report reads
  printf '%s\n%s\n%s\n' "$2" "$3" "$4" > "$results/$1.part"
}
part() { # part NAME COMMAND…: runs, keeps the output, notes how it ended
  local name=$1 start=$SECONDS status=0
  shift
  printf '%-28s ' "$name"
  timeout --kill-after=20 "$limit" "$@" > "$results/$name.out" 2> "$results/$name.err" || status=$?
  printf '%s, %d s\n' "$([ $status -eq 0 ] && echo passed || echo "FAILED ($status)")" \
    $((SECONDS - start))
  [ $status -eq 0 ] || tail -n 3 "$results/$name.err" | sed 's/^/    /'
  note "$name" $status $((SECONDS - start)) "$*"
}
skip() { # skip NAME WHY
  printf '%-28s skipped: %s\n' "$1" "$2"
  note "$1" skipped 0 "$2"
}

# cuDNN and cuBLASLt may be there as Python packages alone, without the names that linkers look for.
from_python() {
  local overlay=$PWD/$build/from_python toolkit include
  toolkit=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)")")")
  for include in "$toolkit/include" "$toolkit/targets/$(uname -m)-linux/include" /usr/include \
      "/usr/include/$(uname -m)-linux-gnu" /usr/local/include; do
    [ ! -f "$include/cudnn.h" ] || local cudnn=$include
    [ ! -f "$include/cublasLt.h" ] || local cublas=$include
  done
  if [ -n "${cudnn:-}" ] && [ -n "${cublas:-}" ]; then return; fi
  mkdir -p "$overlay/include" "$overlay/lib"
  python3 - "$overlay" << 'PYTHON' || return
import pathlib, sys
import nvidia
overlay = pathlib.Path(sys.argv[1])
def link(place, to):
    if not place.exists():
        place.symlink_to(to)
for root in map(pathlib.Path, nvidia.__path__):
    for stem in ("cudnn", "cublas", "nvrtc"):
        for header in root.glob(f"**/include/{stem}*.h"):
            link(overlay / "include" / header.name, header)
        for library in root.glob(f"**/lib/lib{stem}*.so*"):
            link(overlay / "lib" / library.name, library)
            link(overlay / "lib" / (library.name.split(".so")[0] + ".so"), library)
PYTHON
  [ -n "${cudnn:-}" ] || options+=("-DCUDNN_INCLUDE_DIR=$overlay/include"
                                   "-DCUDNN_LIBRARY=$overlay/lib/libcudnn.so")
  [ -n "${cublas:-}" ] || options+=("-DCMAKE_LIBRARY_PATH=$overlay/lib"
                                    "-DCMAKE_CXX_FLAGS=-isystem $overlay/include")
  export LD_LIBRARY_PATH=$overlay/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
}

capability=$(tail -n 1 "$results/devices.txt" | sed 's/.*, *//; s/\.//')
options=(-DCMAKE_BUILD_TYPE=Release -DACCRUE_CUDA=ON)
[[ $capability =~ ^[0-9]+$ ]] && options+=("-DCMAKE_CUDA_ARCHITECTURES=$capability")
if [ -n "$packages" ]; then
  prefix=$PWD/$build/packages
  mkdir -p "$prefix"
  for package in "$packages"/*.deb; do
    dpkg-deb -x "$package" "$prefix" || echo "gpu_check.sh: cannot unpack $package" >&2
  done
  libraries=$(dirname "$(find "$prefix/usr/lib" -name 'libdnnl.so' | head -n 1)")
  export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  options+=("-DCMAKE_PREFIX_PATH=$prefix/usr;$libraries/cmake" "-DXXHASH_INCLUDE_DIR=$prefix/usr/include")
  [ ! -d "$packages/cudnn_frontend" ] ||
    options+=("-DCUDNN_FRONTEND_INCLUDE_DIR=$packages/cudnn_frontend/include")
fi
from_python
command -v ninja > /dev/null && options+=(-G Ninja)

if wants build; then
  part configure cmake -S . -B "$build" "${options[@]}"
  # What can be built is: a program that cannot is missing later on.
  case " ${options[*]} " in *" Ninja "*) further=(-k 0) ;; *) further=(-k) ;; esac
  part build cmake --build "$build" -j "$jobs" -- "${further[@]}"
fi

if wants tests; then part tests ctest --test-dir "$build" --output-on-failure -j "$jobs"; fi
if wants table; then part table "$bin/cross_check" --device cuda; fi

if wants sanitizer; then
  # A text for a short run: none is needed from outside.
  cat docs/tutorial/*.md autograd/*.h core/*.h > "$results/short.txt"
  short=("$bin/train_gpt" --device cuda --data "$results/short.txt" --layers 2 --heads 2 --width 64
         --context 32 --micro-batch 2 --effective-batch 5 --steps 2 --eval-batches 1 --dropout 0.1)
  sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
  check=("$sanitizer" --error-exitcode 9 --tool)
  part memcheck_table env ACCRUE_NO_CACHE=1 "${check[@]}" memcheck "$bin/cross_check" \
    --device cuda --every 9
  part racecheck_table "${check[@]}" racecheck "$bin/cross_check" --device cuda --every 41
  for tool in memcheck racecheck initcheck synccheck; do
    for dtype in f32 bf16; do
      part "${tool}_training_$dtype" "${check[@]}" "$tool" "${short[@]}" --dtype "$dtype"
    done
  done
fi

if wants bench; then
  train=("$bin/bench_train" --device cuda)
  part bench_gpt2_bf16 "${train[@]}" --dtype bf16 --cycles 3
  part bench_width384_bf16 "${train[@]}" --model width384 --dtype bf16 --cycles 20
  part bench_width128_f32 "${train[@]}" --model width128 --f32-products tf32 --cycles 50
  part bench_width128_bf16 "${train[@]}" --model width128 --dtype bf16 --cycles 50
  part bench_kernels_bf16 "$bin/bench_kernels" --device cuda
  part bench_kernels_f32 "$bin/bench_kernels" --device cuda --dtype f32
fi

if wants peers; then
  if python3 -c "import torch" 2> /dev/null; then
    torch=(python3 bench/peers/train_torch.py --device cuda)
    part torch_gpt2_bf16 "${torch[@]}" --dtype bf16 --cycles 3
    part torch_gpt2_bf16_tuned "${torch[@]}" --dtype bf16 --cycles 3 \
      --compile-mode max-autotune-no-cudagraphs
    part torch_width384_bf16 "${torch[@]}" --model width384 --dtype bf16 --cycles 20
    part torch_width128_f32 "${torch[@]}" --model width128 --tf32 --eager --cycles 50
    part torch_width128_bf16 "${torch[@]}" --model width128 --dtype bf16 --eager --cycles 50
  else
    skip torch "no PyTorch that python3 can import"
  fi
fi

if wants text; then
  if [ -n "$text" ]; then
    for seed in 1 2 3; do
      part "text_seed_$seed" "$bin/train_gpt" --device cuda --data "$text" --dtype bf16 --layers 6 \
        --heads 6 --width 384 --context 256 --dropout 0.2 --micro-batch 64 --effective-batch 64 \
        --steps 5000 --lr 1e-3 --min-lr 1e-4 --warmup 100 --beta2 0.99 --eval-interval 250 \
        --seed "$seed"
    done
  else
    skip text "no --text FILE"
  fi
fi

tar czf "$out/logs.tar.gz" -C "$results" .
python3 scripts/gpu_report.py "$results" "$out"
