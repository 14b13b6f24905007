#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages that are missing. Does nothing, and needs no network, when
# all are there. `setup.sh` is for building and testing, `setup.sh text` for the demo's text.
# `setup.sh cudnn [FOLDER]` gets the header library of cuDNN for builds with CUDA (default folder:
# build/cudnn_frontend, where CMake looks). It is optional: without it attention is by own kernels.
set -euo pipefail

cudnn_headers() { # cudnn_headers FOLDER: its include/ becomes that of the Python package
  local folder=$1 wheels
  if [ -f "$folder/include/cudnn_frontend.h" ]; then return 0; fi
  wheels=$(mktemp -d)
  if python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
      --dest "$wheels" nvidia-cudnn-frontend==1.32.0 >&2 && python3 - "$wheels" "$folder" << 'PYTHON'
import pathlib, sys, zipfile
with zipfile.ZipFile(next(pathlib.Path(sys.argv[1]).glob("*.whl"))) as wheel:
    headers = [name for name in wheel.namelist() if name.startswith("include/")]
    wheel.extractall(sys.argv[2], headers)
sys.exit("include/cudnn_frontend.h" not in headers)
PYTHON
  then
    rm -rf "$wheels"
    return 0
  fi
  rm -rf "$wheels"
  echo "setup.sh: the Python package nvidia-cudnn-frontend could not be had (is there a network, and" \
    "pip?). Nothing needs it: attention is by own kernels alone then." >&2
  return 1
}

case "${1:-build}" in
  # oneDNN's CMake file asks for OpenCL, which libdnnl-dev only recommends.
  build) packages=(g++ cmake ninja-build ccache libdnnl-dev ocl-icd-opencl-dev doctest-dev
                   libcli11-dev libxxhash-dev nlohmann-json3-dev python3 python3-pip) ;;
  text) packages=(bible-kjv bible-kjv-text) ;;
  cudnn)
    if [ "${ACCRUE_SKIP_SETUP:-0}" = 1 ]; then exit 0; fi
    cudnn_headers "${2:-$(dirname "${BASH_SOURCE[0]}")/../build/cudnn_frontend}"
    exit ;;
  *) echo "usage: setup.sh [build|text|cudnn [FOLDER]]" >&2; exit 2 ;;
esac

if [ "${ACCRUE_SKIP_SETUP:-0}" = 1 ]; then exit 0; fi
if ! command -v dpkg-query > /dev/null || ! command -v apt-get > /dev/null; then
  echo "setup.sh knows Debian and Ubuntu only. Elsewhere install the like of: ${packages[*]}," >&2
  echo "then run again with ACCRUE_SKIP_SETUP=1." >&2
  exit 1
fi

list_missing() {
  local package
  for package in "${packages[@]}"; do
    if [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2> /dev/null)" != installed ]; then
      echo "$package"
    fi
  done
}

mapfile -t missing < <(list_missing)
if [ ${#missing[@]} -eq 0 ]; then exit 0; fi

if [ "$(id -u)" -eq 0 ]; then
  as_root=()
elif command -v sudo > /dev/null && { sudo -n true 2> /dev/null || [ -t 0 ]; }; then
  as_root=(sudo)  # may ask for a password where there is a terminal to ask on
else
  echo "setup.sh must install packages, but is neither root nor able to use sudo. Have someone run:" >&2
  echo "  apt-get install ${missing[*]}" >&2
  exit 1
fi

echo "Installing ${missing[*]}" >&2
for attempt in 1 2 3; do
  # A package list that cannot be renewed may still serve: the installation decides.
  "${as_root[@]}" apt-get -qq -o Acquire::Retries=2 update >&2 ||
    echo "The package lists could not be renewed (attempt $attempt of 3)." >&2
  if "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
      -o Acquire::Retries=2 -o Dpkg::Use-Pty=0 install "${missing[@]}" >&2; then
    exit 0
  fi
  sleep $((attempt * 2))
done
echo "These packages could not be installed: ${missing[*]}" >&2
exit 1
