#!/usr/bin/env bash
# scripts/setup on machines that are made up: its choice of a LibTorch, its messages where something
# fails, and what it leaves. pip, apt, nvidia-smi and nvcc are small stand-ins; nothing is downloaded.
#
#   tests/scripts/setup_test.sh SOURCE_DIR
set -uo pipefail
source_dir=$1
python=$(command -v python3)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0 case_name=''

# ---- the machine ---------------------------------------------------------------------------------

bin=$work/bin
mkdir "$bin"
program() { cat >"$bin/$1" && chmod +x "$bin/$1"; }
program dpkg-query <<'END_PROGRAM'
#!/bin/sh
case "$*" in
  -L*libtorch-dev) [ -e "$FAKE_LOG.debian" ] && echo "$(cat "$FAKE_LOG.debian")/share/cmake/Torch/TorchConfig.cmake" ;;
  *libtorch-dev*) exit 1 ;;
  *) printf installed ;;
esac
END_PROGRAM
program apt-cache <<'END_PROGRAM'
#!/bin/sh
echo "  Candidate: ${FAKE_DEBIAN_TORCH:-1.13.1+dfsg-4}"
END_PROGRAM
program apt-get <<'END_PROGRAM'
#!/bin/sh
echo "apt-get $*" >>"$FAKE_LOG"
[ -n "${FAKE_DEBIAN_FOLDER:-}" ] && echo "$FAKE_DEBIAN_FOLDER" >"$FAKE_LOG.debian"
END_PROGRAM
program nvidia-smi <<'END_PROGRAM'
#!/bin/sh
[ -n "${FAKE_DRIVER:-}" ] || exit 9
# Line by line, as the real one: it ends with an error where its reader has left.
for gpu in ${FAKE_GPUS:-0}; do
  [ "$gpu" = 0 ] || sleep 0.1
  case "$*" in
    -L) echo "GPU $gpu: NVIDIA H100 (UUID: GPU-$gpu)" || exit 1 ;;
    *driver_version*) echo "$FAKE_DRIVER" || exit 1 ;;
    *compute_cap*) echo 9.0 || exit 1 ;;
  esac
done
END_PROGRAM
program sudo <<'END_PROGRAM'
#!/bin/sh
[ -n "${FAKE_DEBIAN_FOLDER:-}" ] || exit 1
shift
exec "$@"
END_PROGRAM
program df <<'END_PROGRAM'
#!/bin/sh
printf 'Filesystem 1048576-blocks Used Available Capacity Mounted\nfake 1 1 %s 1%% /\n' "${FAKE_FREE:-100000}"
END_PROGRAM
# The Python of the machine: can make a .venv, whose Python's pip is a stand-in.
cat >"$work/venv-python" <<END_PROGRAM
#!/bin/bash
if [[ \$1 == - || "\$1 \$2" == "-m zipfile" ]]; then exec "$python" "\$@"; fi
site=\$(dirname "\$(dirname "\$0")")/lib/python3.11/site-packages
if [[ \$1 == -c ]]; then
  if [[ -e \$site/torch/share/cmake/Torch/TorchConfig.cmake ]]; then echo "\$(realpath "\$site")/torch/share/cmake/Torch"; fi
  exit 0
fi
shift 2
[[ "\$*" != --version ]] || exit 0
echo "pip \$*" >>"\$FAKE_LOG"
index='' place='' previous=''
for word in "\$@"; do
  case \$previous in --index-url) index=\$word ;; -d) place=\$word ;; esac
  previous=\$word
done
case "\$*" in
  *'index versions'*)
    [[ " \${FAKE_INDEXES:-} " == *" \${index##*/} "* ]] || exit 1
    echo 'torch (2.14.0)'; echo 'Available versions: 2.14.0, 2.13.0, 2.12.0'
    sleep 0.1; echo '  INSTALLED: 2.12.0' || exit 1 ;;
  *) if [[ -n \${FAKE_PIP_ERROR:-} ]]; then echo "\$FAKE_PIP_ERROR" >&2; mkdir -p "\$site/torch/share/cmake/Torch"; exit 1; fi
    kind=cuda; [[ \$index != *cpu && "\$*" != *cpu.whl ]] || kind=cpu
    case "\$*" in
      *' download '*) mkdir -p "\$place"
        [[ -z \${FAKE_KILL_DOWNLOAD:-} ]] || { echo half >"\$place/torch.whl"; kill -9 \$PPID; exit 1; }
        case "\$*" in
          *torch==*) "$python" "$work/wheels.py" torch "\$place" \$kind ;;
          *) "$python" "$work/wheels.py" nvidia "\$place" \$kind ;;
        esac ;;
      *' install '*)
        mkdir -p "\$site"
        "$python" "$work/wheels.py" directory "\$site" \$kind
        [[ -z \${FAKE_KILL:-} ]] || kill -9 \$PPID ;;
    esac ;;
esac
END_PROGRAM
chmod +x "$work/venv-python"
program python3 <<END_PROGRAM
#!/bin/bash
if [[ "\$1 \$2" == "-m venv" ]]; then
  mkdir -p "\$3/bin" && cp "$work/venv-python" "\$3/bin/python"
fi
exit 0
END_PROGRAM
cat >"$work/wheels.py" <<'END_PYTHON'
import os, sys, zipfile

what, place, kind = sys.argv[1:]
version = 'set(PACKAGE_VERSION "2.13.0")\n'
cuda = os.environ.get("FAKE_CUDA", "13.0")
torch = {"torch/version.py": "cuda: Optional[str] = " + (f"'{cuda}'" if kind == "cuda" else "None") + "\n",
         "torch/include/a.h": "", "torch/lib/libc10.so": "", "torch/lib/libtorch_cpu.so": "",
         "torch/lib/libtorch.so": "", "torch/share/cmake/Torch/TorchConfig.cmake": "",
         "torch/share/cmake/Torch/TorchConfigVersion.cmake": version, "torch/big.py": ""}
if kind == "cuda":
    torch["torch/lib/libtorch_cuda.so"] = "x"
if what == "directory":
    for name, text in torch.items():
        os.makedirs(os.path.dirname(os.path.join(place, name)), exist_ok=True)
        open(os.path.join(place, name), "w").write(text)
elif what == "torch":
    with zipfile.ZipFile(os.path.join(place, f"torch-2.13.0-{kind}.whl"), "w") as wheel:
        for name, text in torch.items():
            wheel.writestr(name, text)
else:
    with zipfile.ZipFile(os.path.join(place, "nvidia.whl"), "w") as wheel:
        for name in ("libcudart.so.13", "libcupti.so.13", "libnvperf_host.so"):
            wheel.writestr("nvidia/cu13/lib/" + name, "")
END_PYTHON

# toolkit MAJOR: a CUDA toolkit, printed as a directory.
toolkit() {
  local directory=$work/cuda-$1
  mkdir -p "$directory/bin" "$directory/include" "$directory/lib64"
  touch "$directory/include/cublas_v2.h" "$directory/lib64/libcudart.so"
  printf '#!/bin/sh\necho "Cuda compilation tools, release %s.0, V%s.0.1"\n' "$1" "$1" >"$directory/bin/nvcc"
  chmod +x "$directory/bin/nvcc"
  echo "$directory"
}

# ---- one case ------------------------------------------------------------------------------------

begin() {
  case_name=$1
  project=$work/project
  rm -rf "$project"
  mkdir -p "$project"
  cp -r "$source_dir/scripts" "$project/scripts"
  : >"$work/log"
}

# setup [NAME=VALUE…] [-- arguments]: sets status; what it says is in $work/said.
setup() {
  local given=()
  while (($# > 0)) && [[ $1 != -- ]]; do given+=("$1"); shift; done
  (($# == 0)) || shift
  env -i HOME="$work" PATH="$bin:/usr/bin:/bin:/usr/sbin:/sbin" FAKE_LOG="$work/log" "${given[@]}" \
    "$project/scripts/setup" "$@" >"$work/said" 2>&1 </dev/null
  status=$?
}

fail() {
  failures=$((failures + 1))
  echo "FAILED $case_name: $*"
  sed 's/^/    | /' "$work/said"
}
expect_status() { [[ $status == "$1" ]] || fail "expected exit status $1, got $status"; }
expect_said() { grep -qF -- "$1" "$work/said" || fail "expected it to say \"$1\""; }
expect_chosen() { grep -qxF "$1" "$project/.venv/rwkvx-torch" 2>/dev/null || fail "expected the setting $1"; }
expect_asked() { grep -qF -- "$1" "$work/log" || fail "expected a call with \"$1\""; }
expect_not_asked() { ! grep -qF -- "$1" "$work/log" || fail "expected no call with \"$1\""; }
expect_one_error() {
  local count
  count=$(grep -c 'error' "$work/said")
  [[ $count == 1 ]] || fail "expected one line with an error, got $count"
}
expect_no_leftovers() {
  ! compgen -G "$project/.venv/setup.tmp.*" >/dev/null || fail "temporary files are left in .venv"
}

# ---- without a GPU -------------------------------------------------------------------------------

begin "PyTorch's CPU index"
setup FAKE_INDEXES=cpu
expect_status 0
expect_said "(CPU build)"
expect_chosen "Torch_DIR=$project/.venv/lib/python3.11/site-packages/torch/share/cmake/Torch"
expect_no_leftovers

begin "only pip's index, which has the CUDA build"
setup
expect_status 0
expect_said "of which only the CPU half is used"
expect_chosen "Torch_DIR=$project/.venv/torch-cpu/torch/share/cmake/Torch"
expect_asked "nvidia-cuda-runtime==13.0.*"
expect_asked "nvidia-cuda-cupti==13.0.*"
[[ -e $project/.venv/torch-cpu/nvidia/cu13/lib/libcudart.so.13 ]] || fail "expected libcudart.so.13"
[[ ! -e $project/.venv/torch-cpu/torch/lib/libtorch_cuda.so ]] || fail "expected no libtorch_cuda.so"
[[ ! -e $project/.venv/torch-cpu/nvidia/cu13/lib/libnvperf_host.so ]] || fail "expected no libnvperf_host.so"
expect_no_leftovers
: >"$work/log"
setup
expect_status 0
expect_not_asked pip

begin "a CUDA build that is the user's: its CPU half, without a download"
"$python" "$work/wheels.py" directory "$work/mine" cuda
setup Torch_DIR="$work/mine/torch/share/cmake/Torch"
expect_status 0
expect_said "(the CPU half of a CUDA build)"
expect_chosen "Torch_DIR=$work/mine/torch/share/cmake/Torch"
expect_not_asked pip

begin "the user's before .venv's"
setup FAKE_INDEXES=cpu
"$python" "$work/wheels.py" directory "$work/mine-cpu" cpu
setup CMAKE_PREFIX_PATH="/nowhere:$work/mine-cpu/torch"
expect_status 0
expect_chosen "Torch_DIR=$work/mine-cpu/torch/share/cmake/Torch"

setup CMAKE_PREFIX_PATH="$work/mine/torch" Torch_ROOT="$work/mine-cpu/torch"
expect_status 0
expect_chosen "Torch_DIR=$work/mine-cpu/torch/share/cmake/Torch"
expect_said "is that of Torch_ROOT"

begin "an index of the user's own"
setup RWKVX_TORCH_INDEX=https://company.example/mirror/cpu FAKE_INDEXES=cpu
expect_status 0
expect_asked "--index-url https://company.example/mirror/cpu"
expect_not_asked "download.pytorch.org"

begin "only pip's index, which has a build for CUDA 12"
setup FAKE_CUDA=12.6
expect_status 0
expect_asked "nvidia-cuda-runtime-cu12==12.6.*"
expect_asked "nvidia-cuda-cupti-cu12==12.6.*"

begin "Torch_DIR without a LibTorch"
setup Torch_DIR=/nowhere
expect_status 2
expect_one_error

begin "the system's libtorch-dev is too old"
setup FAKE_INDEXES=cpu
expect_not_asked "libtorch-dev"

begin "the system's libtorch-dev is new enough"
setup FAKE_INDEXES=cpu FAKE_DEBIAN_TORCH=2.6.0+dfsg-7 FAKE_DEBIAN_FOLDER="$work/mine-cpu/torch"
expect_status 0
expect_asked "apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends libtorch-dev"
expect_chosen "Torch_DIR=$work/mine-cpu/torch/share/cmake/Torch"
expect_not_asked pip
rm "$work/log.debian"

begin "the system's libtorch-dev cannot be installed"
setup FAKE_INDEXES=cpu FAKE_DEBIAN_TORCH=2.6.0+dfsg-7
expect_status 0
expect_chosen "Torch_DIR=$project/.venv/lib/python3.11/site-packages/torch/share/cmake/Torch"

begin "an interrupted download"
setup FAKE_KILL_DOWNLOAD=1
[[ $status != 0 ]] || fail "expected it to be killed"
setup
expect_status 0
expect_chosen "Torch_DIR=$project/.venv/torch-cpu/torch/share/cmake/Torch"
expect_no_leftovers

begin "an interrupted installation"
setup FAKE_INDEXES=cpu FAKE_KILL=1
[[ $status != 0 ]] || fail "expected it to be killed"
setup FAKE_INDEXES=cpu
expect_status 0
expect_said "an earlier set-up was interrupted"
expect_said "(CPU build)"
expect_no_leftovers
[[ ! -e $project/.venv/torch-unfinished ]] || fail "expected no mark of an unfinished installation"

begin "no space"
setup FAKE_INDEXES=cpu FAKE_PIP_ERROR="ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
expect_status 1
expect_one_error
expect_said "no space left on the disk"
expect_no_leftovers
setup FAKE_INDEXES=cpu
expect_status 0

begin "no space, seen before anything is downloaded"
setup FAKE_INDEXES=cpu FAKE_FREE=300
expect_status 1
expect_one_error
expect_said "and 300 MB are free"
expect_not_asked " download "
setup FAKE_DRIVER=580.82.07 FAKE_FREE=5000
expect_status 1
expect_one_error
expect_not_asked " install "

begin "no network"
setup FAKE_PIP_ERROR="NewConnectionError: Failed to establish a new connection: [Errno 101] Network is unreachable"
expect_status 1
expect_one_error
expect_said "the package index cannot be reached"
expect_no_leftovers

# ---- with a GPU ----------------------------------------------------------------------------------

begin "a GPU with a recent driver"
setup FAKE_DRIVER=580.82.07 FAKE_INDEXES=cpu CUDA_HOME="$(toolkit 13)"
expect_status 0
expect_said "(CUDA build)"
expect_chosen "CMAKE_CUDA_COMPILER=$work/cuda-13/bin/nvcc"
expect_asked "torch===2.13.0"

begin "eight GPUs"
setup FAKE_DRIVER=580.82.07 FAKE_GPUS="0 1 2 3 4 5 6 7" CUDA_HOME="$(toolkit 13)"
expect_status 0
expect_said "(CUDA build)"

begin "a GPU whose driver does not answer"
setup FAKE_INDEXES=cpu
expect_status 0
expect_said "nvidia-smi shows no GPU that works"

begin "a GPU with an old driver, and no build for it"
setup FAKE_DRIVER=570.133.20
expect_status 1
expect_one_error
expect_said "the NVIDIA driver is 570.133.20"
expect_said "580.65"
expect_not_asked " install "
expect_not_asked " download "

begin "a GPU with an old driver, and an index for CUDA 12"
setup FAKE_DRIVER=570.133.20 FAKE_INDEXES=cu126 CUDA_HOME="$(toolkit 12)"
expect_asked "--index-url https://download.pytorch.org/whl/cu126"

begin "a GPU with an old driver, an index for CUDA 12 and no compiler for it"
setup FAKE_DRIVER=570.133.20 FAKE_INDEXES=cu126
expect_status 1
expect_one_error
expect_said "no CUDA toolkit 12 here"
expect_not_asked " install "

begin "a GPU with a driver that no build supports"
setup FAKE_DRIVER=470.57 FAKE_INDEXES="cu126 cu129"
expect_status 1
expect_one_error
expect_not_asked " install "

begin "a CUDA LibTorch that is the user's, with an old driver"
setup FAKE_DRIVER=550.54 CUDA_HOME="$(toolkit 13)" Torch_DIR="$work/mine/torch/share/cmake/Torch"
expect_status 2
expect_said "needs an NVIDIA driver of 580.65 or later, and this machine's is 550.54"

begin "a CPU build beside a GPU"
setup FAKE_DRIVER=580.82.07 Torch_DIR="$work/mine-cpu/torch/share/cmake/Torch"
expect_status 0
expect_said "warning: this machine has an NVIDIA GPU"

begin "--cpu beside a GPU, then scripts/setup as scripts/build calls it"
setup FAKE_DRIVER=580.82.07 -- --cpu
expect_status 0
setup FAKE_DRIVER=580.82.07
expect_status 0
expect_said "warning: this machine has an NVIDIA GPU"

if ((failures > 0)); then
  echo "$failures expectations failed"
  exit 1
fi
echo "all as expected"
