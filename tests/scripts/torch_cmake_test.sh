#!/usr/bin/env bash
# src/torch.cmake with LibTorchs that are made up: which one is taken, whether the kernels are built, for
# which GPUs, and what is said where that is not possible. Compiles nothing.
#
#   tests/scripts/torch_cmake_test.sh SOURCE_DIR [CMAKE]
set -uo pipefail
source_dir=$1 cmake=${2:-cmake}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# torch NAME cpu|cuda|half: a LibTorch in a directory of that name.
torch() {
  local directory=$work/$1
  mkdir -p "$directory/lib" "$directory/share/cmake/Torch"
  touch "$directory/lib/libc10.so" "$directory/lib/libtorch_cpu.so"
  echo 'set(PACKAGE_VERSION "2.13.0")
set(PACKAGE_VERSION_COMPATIBLE TRUE)' >"$directory/share/cmake/Torch/TorchConfigVersion.cmake"
  echo "set(TORCH_INSTALL_PREFIX $directory)
add_library(torch INTERFACE IMPORTED GLOBAL)" >"$directory/share/cmake/Torch/TorchConfig.cmake"
  [[ $2 == cpu ]] && { echo 'cuda: Optional[str] = None' >"$directory/version.py"; return; }
  echo "cuda: Optional[str] = '13.0'" >"$directory/version.py"
  [[ $2 == half ]] && return
  touch "$directory/lib/libtorch_cuda.so"
  echo 'add_library(torch_cuda INTERFACE IMPORTED GLOBAL)' >>"$directory/share/cmake/Torch/TorchConfig.cmake"
}
torch cpu cpu
torch cuda cuda
torch half half
mkdir -p "$work/toolkit/bin" "$work/toolkit/include" "$work"/{gpu,gpus,none,unknown}
touch "$work/toolkit/include/cublas_v2.h"
printf '#!/bin/sh\n' >"$work/toolkit/bin/nvcc"
printf '#!/bin/sh\necho 8.6\n' >"$work/gpu/nvidia-smi"
printf '#!/bin/sh\necho 9.0; echo 10.0; echo 8.6; echo 9.0\n' >"$work/gpus/nvidia-smi"
printf '#!/bin/sh\nexit 9\n' >"$work/none/nvidia-smi"
printf '#!/bin/sh\necho "[N/A]"\n' >"$work/unknown/nvidia-smi"
chmod +x "$work"/toolkit/bin/nvcc "$work"/{gpu,gpus,none,unknown}/nvidia-smi
mkdir "$work/project"
cat >"$work/project/CMakeLists.txt" <<END_FILE
cmake_minimum_required(VERSION 3.25)
project(choice LANGUAGES NONE)
set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL ON)
set(RWKVX_CUDA AUTO CACHE STRING "")
include($source_dir/src/torch.cmake)
message(STATUS "half=\${RWKVX_TORCH_HALF} cuda=\${RWKVX_WITH_CUDA} archs=\${TORCH_CUDA_ARCH_LIST} runtime=\${CMAKE_CUDA_RUNTIME_LIBRARY}")
END_FILE
# Whether the machine has a toolkit of its own or not, the cases without one see none.
none=(-DRWKVX_NVCC=RWKVX_NVCC-NOTFOUND)

# configure NAME [NAME=VALUE…] -- options: what it says goes to $work/said.
configure() {
  case_name=$1
  shift
  local given=()
  while [[ $1 != -- ]]; do given+=("$1"); shift; done
  shift
  rm -rf "$work/build"
  env -u Torch_DIR -u Torch_ROOT -u CMAKE_PREFIX_PATH -u TORCH_CUDA_ARCH_LIST -u CUDA_HOME PATH="$work/none:$PATH" "${given[@]}" \
    "$cmake" -G Ninja -S "$work/project" -B "$work/build" "$@" >"$work/raw" 2>&1
  tr -s ' \n' ' ' <"$work/raw" >"$work/said"
}
expect() {
  grep -qF -- "$1" "$work/said" && return
  failures=$((failures + 1))
  echo "FAILED $case_name: expected \"$1\""
  sed 's/^/    | /' "$work/raw"
}
cpu=$work/cpu/share/cmake/Torch cuda=$work/cuda/share/cmake/Torch half=$work/half/share/cmake/Torch
with_toolkit=(-DCMAKE_CUDA_COMPILER="$work/toolkit/bin/nvcc" -DCUDA_TOOLKIT_ROOT_DIR="$work/toolkit")

configure "CPU build" -- -DTorch_DIR="$cpu"
expect "half=FALSE cuda=FALSE"
configure "CUDA build and a toolkit" -- -DTorch_DIR="$cuda" "${with_toolkit[@]}"
expect "half=FALSE cuda=TRUE archs=8.0;9.0+PTX runtime=Shared"
configure "the same with a GPU" PATH="$work/gpu:$PATH" -- -DTorch_DIR="$cuda" "${with_toolkit[@]}"
expect "cuda=TRUE archs=8.6+PTX"
configure "the same with several GPUs" PATH="$work/gpus:$PATH" -- -DTorch_DIR="$cuda" "${with_toolkit[@]}"
expect "archs=8.6;9.0;10.0+PTX"
configure "the same with a GPU of unknown capability" PATH="$work/unknown:$PATH" -- -DTorch_DIR="$cuda" "${with_toolkit[@]}"
expect "archs=8.0;9.0+PTX"
configure "architectures by the environment" TORCH_CUDA_ARCH_LIST=7.5 -- -DTorch_DIR="$cuda" "${with_toolkit[@]}"
expect "archs=7.5 "
configure "architectures by a setting" TORCH_CUDA_ARCH_LIST=7.5 -- -DTorch_DIR="$cuda" -DTORCH_CUDA_ARCH_LIST=8.9 "${with_toolkit[@]}"
expect "archs=8.9 "
configure "kernels not wanted" -- -DTorch_DIR="$cuda" -DRWKVX_CUDA=OFF "${with_toolkit[@]}"
expect "half=TRUE cuda=FALSE"
configure "the half" -- -DTorch_DIR="$half" "${with_toolkit[@]}"
expect "half=TRUE cuda=FALSE"
configure "the half, kernels wanted" -- -DTorch_DIR="$half" -DRWKVX_CUDA=ON "${with_toolkit[@]}"
expect "run scripts/setup --cuda"
configure "CPU build, kernels wanted" -- -DTorch_DIR="$cpu" -DRWKVX_CUDA=ON
expect "expected a LibTorch with CUDA, got the CPU build"
expect "run scripts/setup --cuda"
configure "no such directory" -- -DTorch_DIR=/nowhere
expect "expected a directory with TorchConfig.cmake, got /nowhere"

# A toolkit in /usr/local/cuda would be found.
if [[ ! -e /usr/local/cuda/include/cublas_v2.h && ! -e /usr/include/cublas_v2.h ]]; then
  configure "CUDA build without a toolkit" -- -DTorch_DIR="$cuda" "${none[@]}"
  expect "half=TRUE cuda=FALSE"
  configure "the same with a GPU" PATH="$work/gpu:$PATH" -- -DTorch_DIR="$cuda" "${none[@]}"
  expect "run scripts/setup --cuda"
  configure "CUDA build without a toolkit, kernels wanted" -- -DTorch_DIR="$cuda" -DRWKVX_CUDA=ON "${none[@]}"
  expect "run scripts/setup --cuda"
fi

# What the user names comes before what scripts/setup chose.
mkdir "$work/project/.venv"
echo "Torch_DIR=$half" >"$work/project/.venv/rwkvx-torch"
configure "scripts/setup's choice" --
expect "half=TRUE"
configure "Torch_DIR of the environment" Torch_DIR="$cpu" --
expect "half=FALSE"
configure "CMAKE_PREFIX_PATH of the environment" CMAKE_PREFIX_PATH="/nowhere:$work/cpu" --
expect "half=FALSE"
configure "CMAKE_PREFIX_PATH as a setting" -- -DCMAKE_PREFIX_PATH="/nowhere;$work/cpu"
expect "half=FALSE"
configure "Torch_ROOT of the environment" Torch_ROOT="$work/cpu" --
expect "half=FALSE"
configure "Torch_ROOT as a setting" -- -DTorch_ROOT="$work/cpu"
expect "half=FALSE"
configure "Torch_DIR as a setting" Torch_DIR="$half" -- -DTorch_DIR="$cpu"
expect "half=FALSE"

if ((failures > 0)); then
  echo "$failures expectations failed"
  exit 1
fi
echo "all as expected"
