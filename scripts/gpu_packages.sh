#!/usr/bin/env bash
# Fills a folder with what a GPU machine without a network needs beside its CUDA Toolkit, cuDNN, a
# C++ compiler, CMake and Python: libraries as Debian packages, and cuDNN's header library (optional:
# without it attention is by own kernels alone).
#   scripts/gpu_packages.sh [FOLDER]          default: .gpu_packages
# Take FOLDER and this tree to the GPU machine and run there: scripts/gpu_check.sh --packages FOLDER
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=${1:-.gpu_packages}
case "$folder" in
  -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
  -*) sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
if ! command -v apt-get > /dev/null; then
  echo "gpu_packages.sh takes packages from Debian or Ubuntu: run it on such a machine" >&2
  exit 1
fi
# Libraries alone: compilers and the toolkit are the GPU machine's own.
packages=(libdnnl-dev libdnnl2 ocl-icd-opencl-dev ocl-icd-libopencl1 opencl-c-headers
          opencl-clhpp-headers doctest-dev libcli11-dev libxxhash-dev nlohmann-json3-dev)
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
(cd "$folder" && apt-get -q -o APT::Sandbox::User="$(id -un)" download "${packages[@]}")
scripts/setup.sh cudnn "$folder/cudnn_frontend" || true # says itself what is missing then
echo "$(find "$folder" -name '*.deb' | wc -l) packages, $(du -sh "$folder" | cut -f1), in $folder"
