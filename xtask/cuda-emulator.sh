#!/usr/bin/env bash
# Make an emulated CUDA driver, with a cuBLASLt, under the names that programs built with CUDA load:
#
#   bash cuda-emulator.sh TOOLKIT DIR      TOOLKIT is the folder cuda-env.sh made
#
# Functions that models/tests/cuda_emulator/driver.cpp lacks do nothing and say that all went well.
set -euo pipefail

TOOLKIT=$1/nvidia/cu13/lib/stubs
DIR=$2
ROOT=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$DIR"
# The jumps between fibres' stacks are refused by the fortified longjmp.
compile() {
  c++ -std=c++17 -O2 -w -fPIC -U_FORTIFY_SOURCE -fno-strict-aliasing -ffp-contract=off \
    -I "$ROOT/models/tests/cuda_emulator" -I "$ROOT/models/src/vit/kernels/cuda/source" "$@"
}
names() { nm --dynamic --defined-only "$@" | awk 'NF == 3 {print $3}' | sort -u; }

compile -c -o "$DIR/driver.o" "$ROOT/models/tests/cuda_emulator/driver.cpp"
nm --defined-only --extern-only "$DIR/driver.o" | awk '{print $3}' | sort -u >"$DIR/present"
names "$TOOLKIT"/*.so.* | comm -23 - "$DIR/present" | grep -E '^(cu|nvrtc)' |
  awk '{printf "int %s(void) { return 0; }\n", $1}' | cc -c -O1 -fPIC -w -fno-builtin -x c -o "$DIR/rest.o" -
compile -shared -o "$DIR/libcuda.so.1" "$DIR/driver.o" "$DIR/rest.o"
# One library under all names: the loader loads it once.
for name in libcublas.so.13 libcublasLt.so.13 libcurand.so.10 libnvrtc.so.13; do ln -sf libcuda.so.1 "$DIR/$name"; done
