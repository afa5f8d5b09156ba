#!/usr/bin/env bash
# Make a CUDA 13.0 build tree (nvcc, headers, link-time libraries) out of PyPI wheels,
# for building candle-core's `cuda` feature on a machine that has no GPU and no CUDA.
#
#   bash cuda-env.sh DIR            make the tree under DIR (a second run does nothing), print the exports
#   eval "$(bash cuda-env.sh DIR)"  the same, and set the variables in this shell
#
# Only the exports go to standard output; everything else goes to standard error.
# Options, as environment variables:
#   CUDA_CAP=90          compute capability to build for (H100 and H200: 90, which cudaforge turns into sm_90a)
#   NVCC_NAME=nvcc       export NVCC as the whole compiler; the default is nvcc-lean, which leaves out candle's
#                        quantised and MoE kernels (14 s instead of 260 s, and 17 MB instead of 52 MB of program)
#   CUDARC_VERSION=0.19.10   the cudarc whose bindings the link stubs are made from
set -euo pipefail

DIR=${1:?usage: cuda-env.sh DIR}
CUDA_CAP=${CUDA_CAP:-90}
CUDARC_VERSION=${CUDARC_VERSION:-0.19.10}
mkdir -p "$DIR"
DIR=$(cd "$DIR" && pwd)
HOME_DIR=$DIR/nvidia/cu13
log() { printf 'cuda-env: %s\n' "$*" >&2; }

# Pinned: CUDA 13.0 update 2, matching driver 580.
WHEELS=(
  nvidia-cuda-nvcc==13.0.88      # nvcc, cudafe++, ptxas, fatbinary, nvlink, bin2c (37 MB)
  nvidia-cuda-crt==13.0.88       # include/crt
  nvidia-nvvm==13.0.88           # nvvm/bin/cicc, libdevice (62 MB)
  nvidia-cuda-runtime==13.0.96   # cuda.h, cuda_runtime.h, cuda_bf16.h, libcudart.so.13, libcudart_static.a
  nvidia-cuda-cccl==13.0.85      # cuda/std, cub, thrust
)
PY=${PYTHON:-python3}

# 1. the compiler and its headers
STAMP=$DIR/.stamp-$(printf '%s\n' "${WHEELS[@]}" | sha256sum | cut -c1-12)
if [ ! -e "$STAMP" ]; then
  log "installing ${WHEELS[*]}"
  rm -rf "$DIR/nvidia" "$DIR"/.stamp-* "$DIR"/nvidia_*.dist-info
  "$PY" -m pip install -q --disable-pip-version-check --no-deps --no-compile --no-cache-dir \
      --only-binary=:all: --upgrade --target "$DIR" "${WHEELS[@]}" >&2
  ln -sfn lib "$HOME_DIR/lib64"                               # cudarc and nvcc both look there
  ln -sfn libcudart.so.13 "$HOME_DIR/lib/libcudart.so"
  mkdir -p "$HOME_DIR/lib/stubs"
  chmod +x "$HOME_DIR"/bin/* "$HOME_DIR"/nvvm/bin/* 2>/dev/null || true
  touch "$STAMP"
fi

# 2. link stubs: empty functions under the right SONAME. The real libraries (cuBLAS alone is 400 MB)
#    are needed only where the program runs; libcuda.so.1 comes with the driver and is in no wheel.
#    Names come from cudarc's own bindings, which are all that candle can refer to.
find_cudarc() {
  local d
  for d in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/cudarc-"$CUDARC_VERSION" ${VENDOR_DIR:+"$VENDOR_DIR"/cudarc}; do
    [ -d "$d/src" ] && { printf '%s' "$d"; return 0; }
  done
  return 1
}
stub() {  # stub LIBNAME SONAME CUDARC_MODULE NAME_PATTERN RETURN_VALUE
  local so=$HOME_DIR/lib/stubs/lib$1.so list n
  [ -e "$so" ] && [ -e "$HOME_DIR/lib/stubs/$2" ] && return 0
  list=$(grep -rhoE "fn $4[A-Z][A-Za-z0-9_]*" "$CUDARC_SRC/src/$3/sys" | awk '{print $2}' | sort -u)
  n=$(printf '%s\n' "$list" | grep -c .)
  [ "$n" -gt 5 ] || { log "no bindings found for $1 in $CUDARC_SRC"; exit 1; }
  printf '%s\n' "$list" | awk -v r="$5" '{printf "int %s(void) { return %s; }\n", $1, r}' |
    ${CC:-cc} -shared -fPIC -O1 -w -fno-builtin -x c - -Wl,-soname,"$2" -o "$HOME_DIR/lib/stubs/$2"
  ln -sfn "$2" "$so"
  log "stub lib$1.so -> $2 ($n symbols)"
}
if [ ! -e "$HOME_DIR/lib/stubs/.done-$CUDARC_VERSION-nccl" ]; then
  if ! CUDARC_SRC=$(find_cudarc); then
    log "fetching cudarc $CUDARC_VERSION"
    T=$(mktemp -d); mkdir "$T/src"; : >"$T/src/lib.rs"
    printf '[package]\nname="x"\nversion="0.0.0"\nedition="2021"\n[dependencies]\ncudarc="=%s"\n[workspace]\n' "$CUDARC_VERSION" >"$T/Cargo.toml"
    (cd "$T" && cargo fetch -q >&2); rm -rf "$T"
    CUDARC_SRC=$(find_cudarc)
  fi
  rm -f "$HOME_DIR"/lib/stubs/.done-*
  stub cuda     libcuda.so.1     driver   cu     100   # CUDA_ERROR_NO_DEVICE
  stub cublas   libcublas.so.13  cublas   cublas 1     # CUBLAS_STATUS_NOT_INITIALIZED
  stub cublasLt libcublasLt.so.13 cublaslt cublasLt 1
  stub curand   libcurand.so.10  curand   curand 101   # CURAND_STATUS_NOT_INITIALIZED
  stub nccl     libnccl.so.2     nccl    nccl   2     # ncclSystemError; only builds for several GPUs refer to it
  stub nvrtc    libnvrtc.so.13   nvrtc    nvrtc  11    # NVRTC_ERROR_INTERNAL_ERROR
  touch "$HOME_DIR/lib/stubs/.done-$CUDARC_VERSION-nccl"
fi

# 3. nvcc-lean: nvcc without candle's quantised and MoE kernels (NVCC=... is what cudaforge looks at first)
cat >"$HOME_DIR/bin/nvcc-lean.new" <<'LEANEOF'
#!/usr/bin/env bash
# nvcc for candle-kernels without its quantised-GGUF and mixture-of-experts kernels, which training does not use:
# they are 4 of its 4.5 minutes of compile time and 40 MB of the program. Their host functions become stubs that
# abort, quantized.ptx becomes empty. Every other call goes to nvcc as it is. Use: NVCC=$CUDA_HOME/bin/nvcc-lean
real=$(dirname "$(readlink -f "$0")")/nvcc
src=${!#}
if [ -n "${CARGO_MANIFEST_DIR:-}" ] && [ -f src/ffi.rs ] && [ -f src/mmvq_gguf.cu ]; then
  mode= out= dir=.
  args=("$@")
  for ((i = 0; i < $#; i++)); do
    case ${args[i]} in
      -c) mode=obj ;;
      --ptx) mode=ptx ;;
      -o) out=${args[i + 1]} ;;
      --output-directory) dir=${args[i + 1]} ;;
    esac
  done
  case $mode:$src in
    obj:*mmvq_gguf.cu)
      { printf '#include <stdio.h>\n#include <stdlib.h>\n'
        grep -oE 'fn [A-Za-z0-9_]+' src/ffi.rs | awk '{print $2}' | sort -u |
          awk '{printf "void %s(void){fputs(\"candle-kernels: %s was left out of this build (nvcc-lean)\\n\",stderr);abort();}\n",$1,$1}'
      } | cc -c -O1 -fPIC -w -x c - -o "$out"
      exit ;;
    obj:*mmq_gguf/*.cu | obj:*moe/*.cu) echo | cc -c -fPIC -x c - -o "$out"; exit ;;
    ptx:*quantized.cu) printf '.version 9.0\n.target sm_90a\n.address_size 64\n' >"$dir/quantized.ptx"; exit ;;
  esac
fi
exec "$real" "$@"
LEANEOF
chmod +x "$HOME_DIR/bin/nvcc-lean.new"
if cmp -s "$HOME_DIR/bin/nvcc-lean.new" "$HOME_DIR/bin/nvcc-lean"; then rm "$HOME_DIR/bin/nvcc-lean.new"; else mv "$HOME_DIR/bin/nvcc-lean.new" "$HOME_DIR/bin/nvcc-lean"; fi

"$HOME_DIR/bin/nvcc" --version >&2 || { log "nvcc does not run"; exit 1; }
cat <<EXPORTS
export CUDA_HOME=$HOME_DIR
export CUDA_PATH=$HOME_DIR
export PATH=$HOME_DIR/bin:\$PATH
export CUDA_COMPUTE_CAP=$CUDA_CAP
export CUDARC_CUDA_VERSION=13000
export NVCC=$HOME_DIR/bin/${NVCC_NAME:-nvcc-lean}
export CUDAFORGE_THREADS=\${CUDAFORGE_THREADS:-2}
export LIBRARY_PATH=$HOME_DIR/lib:$HOME_DIR/lib/stubs\${LIBRARY_PATH:+:\$LIBRARY_PATH}
EXPORTS
