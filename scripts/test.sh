#!/usr/bin/env bash
# Sets up, builds and runs all tests: in Release with two threads and with one, then under the
# address and undefined-behaviour sanitizers, most of them with one.
# ACCRUE_SKIP_SETUP=1, ACCRUE_SKIP_ONE_THREAD=1 and ACCRUE_SKIP_ASAN=1 leave a part out.
set -euo pipefail
if [ $# -gt 0 ]; then
  sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}"
  echo "It takes no arguments."
  case $1 in -h | --help) exit 0 ;; *) exit 2 ;; esac
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."

jobs=${ACCRUE_JOBS:-$(nproc)}
# The tests' matrices are small: more threads than two would only wait for each other.
threads=${OMP_NUM_THREADS:-2}

times=()
report() {
  printf '\n%-28s %s\n' "part" "seconds"
  for line in "${times[@]}"; do printf '%-28s %s\n' "${line%=*}" "${line##*=}"; done
  echo "total $SECONDS s"
}
trap report EXIT

part() {  # part NAME COMMAND…: runs, and notes how long it took
  local name=$1 start=$SECONDS status=0
  shift
  printf '\n== %s\n' "$name"
  "$@" || status=$?
  times+=("$name$([ $status -eq 0 ] || echo ' (failed)')=$((SECONDS - start))")
  return $status
}

build() {  # build PRESET
  # A build without tests would leave those of before in its folder, and ctest would run them.
  cmake --preset "$1" -DACCRUE_TESTS=ON && cmake --build --preset "$1" -j "$jobs"
}

# The tests compare with the safetensors package of Python; without it they say that they skip.
peer() {
  python3 -c "import safetensors, numpy" 2> /dev/null ||
    python3 -m pip install --quiet --disable-pip-version-check --target build/python safetensors numpy ||
    echo "no safetensors package for Python here: its tests will be skipped"
}
# Compares what kernels take with docs/performance.md; not every toolkit has it.
cuobjdump_package() {
  command -v cuobjdump > /dev/null || [ -x /usr/local/cuda/bin/cuobjdump ] ||
    compgen -G "build/python/nvidia/cu*/bin/cuobjdump" > /dev/null ||
    python3 -m pip install --quiet --disable-pip-version-check --target build/python nvidia-cuda-cuobjdump ||
    echo "no cuobjdump here: the test kernel_resources will be skipped"
}
export PYTHONPATH=$PWD/build/python${PYTHONPATH:+:$PYTHONPATH}

run_tests() {  # run_tests PRESET THREADS [CTEST OPTION…]
  local preset=$1 count=$2 slots=$jobs
  # Tests that run alone for their threads' sake take two slots, and need one core here.
  [ "$count" -gt 1 ] || slots=$((2 * jobs))
  shift 2
  OMP_NUM_THREADS=$count ctest --preset "$preset" -j "$slots" "$@"
}

[ "${ACCRUE_SKIP_SETUP:-0}" = 1 ] || part "setup" scripts/setup.sh
part "safetensors for Python" peer
if command -v nvcc > /dev/null || [ -x /usr/local/cuda/bin/nvcc ]; then
  part "cuDNN's headers" scripts/setup.sh cudnn || true # optional
  part "cuobjdump" cuobjdump_package
fi
part "build, release" build release
part "tests, release" run_tests release "$threads" # those of two threads run alone
# Tests labelled `once` do not compute, those labelled `threads` try several counts themselves: a
# second thread count tells nothing new of them.
[ "${ACCRUE_SKIP_ONE_THREAD:-0}" = 1 ] ||
  part "tests, release, one thread" run_tests release 1 -LE 'once|threads'
if [ "${ACCRUE_SKIP_ASAN:-0}" != 1 ]; then
  part "build, asan" build asan
  # Without the allocator's cache every freed block is really freed, so misuse shows.
  export ACCRUE_NO_CACHE=1
  # Two threads take long there: they have the kernels' table, which sets them itself, and these.
  two_threads='^(nn|optim|golden)$'
  part "tests, asan, one thread" run_tests asan 1 -LE once -E "$two_threads"
  part "tests, asan, two threads" run_tests asan "$threads" -R "$two_threads"
fi
