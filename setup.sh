#!/usr/bin/env bash
# Sets up .venv from the pins in constraints.txt. `make` runs it when needed; after an interruption just run it again.
#
#   PYTHON=python3.12         the interpreter (otherwise the first of python3.11 ... python3.14, python3 that will do)
#   CXX=clang++               the compiler for mmcv's ops (otherwise c++, g++ or clang++)
#   CUDA_VISIBLE_DEVICES=''   build mmcv's ops for the CPU although there is a GPU
#   FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST='8.0;9.0'    build them for these GPUs on a machine that has none, but nvcc
#   DISK_GB=4                 the disk space to ask for
set -euo pipefail

VENV=.venv
BUILD_LOG=$VENV/mmcv-build.log
# The package index serves torch's CUDA build: about 3 GB to download, 7 GB unpacked. With a CPU build .venv takes 2 GB.
: "${DISK_GB:=10}"

say() { printf '%s\n' "$*"; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# --- what the machine must bring: each check fails in one line that says how to mend it ---

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3}; do
        # Run it: version managers leave commands on PATH that only print how to install the real one.
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        PYTHON=$candidate
        "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
            fail "$PYTHON has no venv; install it (Debian, Ubuntu: apt install python3-venv)"
        "$PYTHON" -c 'import os, sysconfig as s, sys; sys.exit(not os.path.exists(s.get_path("include") + "/Python.h"))' ||
            fail "$PYTHON has no C headers (Python.h), which mmcv's build needs; install them (Debian, Ubuntu: apt install python3-dev)"
        return
    done
    fail "Python >= 3.11 not found (tried: ${PYTHON:-python3.11 ... python3.14, python3}); install it, or name it: make PYTHON=/path/to/python3.11"
}

find_compiler() {
    local candidate
    for candidate in ${CXX:-c++ g++ clang++}; do
        command -v "$candidate" >/dev/null || continue
        "$candidate" -x c++ -std=c++17 -fsyntax-only - <<<'#include <vector>' 2>/dev/null || continue
        export CXX=$candidate
        return
    done
    fail "no working C++17 compiler (tried: ${CXX:-c++, g++, clang++}); install one (Debian, Ubuntu: apt install g++), or name it: make CXX=/path/to/g++"
}

check_disk() {
    local free held=0
    [[ -e $VENV/.ready ]] && return # only what changed will be installed
    free=$(df -Pk . | awk 'NR == 2 { print $4 }')
    [[ -d $VENV ]] && held=$(du -sk $VENV | cut -f1)
    ((free + held >= DISK_GB * 1000000)) ||
        fail "$((free / 1000000)) GB of disk free in $PWD, ${DISK_GB} GB needed; free some, or ask for less where pip finds a CPU build of torch: make DISK_GB=4"
}

forced() { [[ ${FORCE_CUDA:-0} == 1 ]]; } # what mmcv's build reads, too

check_cuda() {
    local why="a GPU is visible"
    if forced; then
        [[ -n ${TORCH_CUDA_ARCH_LIST:-} ]] ||
            fail "FORCE_CUDA=1 builds for GPUs that cannot be asked; name them: make FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST='8.0;9.0' (A100; H100)"
        why="FORCE_CUDA is 1"
    else
        [[ ${CUDA_VISIBLE_DEVICES-all} =~ ^(-1)?$ ]] && return # hidden on purpose
        [[ $(nvidia-smi -L 2>/dev/null) == GPU* ]] || return 0
    fi
    # Where torch looks for the toolkit, in its order.
    local home=${CUDA_HOME:-${CUDA_PATH:-}}
    if [[ -n $home ]]; then
        [[ -x $home/bin/nvcc ]] && return
    else
        command -v nvcc >/dev/null && return
        [[ -x /usr/local/cuda/bin/nvcc ]] && return
    fi
    fail "$why but nvcc is not there${home:+ in $home/bin}; install the CUDA toolkit (version 13, as torch), or build for the CPU: make CUDA_VISIBLE_DEVICES=''"
}

check_machine() {
    find_python
    find_compiler
    check_disk
    check_cuda
}

# --- what is installed ---

pip() { "$VENV/bin/python" -m pip --disable-pip-version-check "$@"; }

# Where .venv lies, links resolved: its scripts name that place, so that it cannot be moved.
place() { (cd $VENV && pwd -P); }
moved() { [[ -s $VENV/.ready && $(<$VENV/.ready) != "$(place)" ]]; }

# An interrupted set-up starts over: pip takes a package whose copying was cut short for installed. What it had downloaded
# and built is in its cache.
create_venv() {
    if [[ -e $VENV/.incomplete ]] || moved || ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        say "Creating $VENV with $("$PYTHON" --version)"
        "$PYTHON" -m venv --clear $VENV
    fi
    touch $VENV/.incomplete
}

clock() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }

# Passes ninja's "[done/total] command" lines of a verbose build on as progress, and nothing else.
show_progress() {
    local line count total elapsed step=-1 start=$SECONDS end='\n'
    [[ -t 1 ]] && end='\r'
    while IFS= read -r line; do
        [[ $line =~ ^[[:space:]]*\[([0-9]+)/([0-9]+)\]([[:space:]]|$) ]] || continue
        count=${BASH_REMATCH[1]} total=${BASH_REMATCH[2]} elapsed=$((SECONDS - start))
        [[ -t 1 ]] || ((10 * count / total > step)) || continue # ten lines are enough for a log
        step=$((10 * count / total))
        printf "  [%2d/%d] %s gone, about %s left   $end" \
            "$count" "$total" "$(clock $elapsed)" "$(clock $((elapsed * (total - count) / count)))"
    done
    [[ ! -t 1 || -z ${count:-} ]] || printf '\n'
}

# mmcv is published as source only. Its largest file takes 3 GB of memory to compile, so memory bounds the jobs too.
install_mmcv() {
    local jobs memory
    jobs=$(nproc)
    memory=$(awk '/MemAvailable/ { print int($2 / 3000000) }' /proc/meminfo)
    ((memory >= jobs)) || jobs=$((memory > 1 ? memory : 1))
    export MAX_JOBS=${MAX_JOBS:-$jobs} CFLAGS="${CFLAGS:-} -g0 -w" # neither symbols nor upstream's warnings
    say "Building mmcv's ops with $MAX_JOBS jobs: about 10 minutes on 2 cores, seconds if pip has built them before (log: $BUILD_LOG)"
    pip install --verbose --no-build-isolation --no-deps -c constraints.txt "$@" mmcv 2>&1 | tee $BUILD_LOG | show_progress || {
        tail -n 15 $BUILD_LOG | cut -c1-300 >&2
        fail "mmcv did not build; the last lines are above, all of them in $BUILD_LOG"
    }
}

mmcv_works() {
    "$VENV/bin/python" -c 'import sys; from fasa.check import devices, ops_error; sys.exit(any(map(ops_error, devices())))' || return
    ! forced || "$VENV/bin/python" -c 'import sys; from mmcv.ops import get_compiling_cuda_version as cuda; sys.exit(cuda() == "not available")'
}

install_packages() {
    pip install -q -c constraints.txt pip setuptools wheel
    say "Installing torch (the CUDA build is a download of 3 GB)"
    pip install -c constraints.txt torch ninja psutil numpy
    if forced && ! "$VENV/bin/python" -c 'import sys, torch; sys.exit(not torch.version.cuda)'; then
        fail "FORCE_CUDA is 1, but pip finds a CPU build of torch; point it to one with CUDA"
    fi
    install_mmcv
    say "Installing the rest (about 2 minutes)"
    PYTHONWARNINGS=ignore pip install -q --no-build-isolation -c constraints.txt -e '.[detection,instaboost,pipeline,dev]'
    # mmengine asks for opencv-python, which cannot be imported without libGL and X11; servers have neither.
    pip uninstall -q -y opencv-python 2>/dev/null
    pip install -q --no-deps --force-reinstall -c constraints.txt opencv-python-headless
    if ! mmcv_works; then
        say "The mmcv that pip had kept was built against another torch, or for other machines: building it anew"
        install_mmcv --force-reinstall --no-cache-dir
        mmcv_works || fail "mmcv's ops do not run on this machine; $VENV/bin/python -m fasa.check says why, $BUILD_LOG how they were built"
    fi
}

configure_checkout() {
    if [[ -e .git ]]; then
        # Notebooks are committed without outputs (.gitattributes names this filter). DVC copies this line into the
        # temporary clones of `dvc exp run --temp` and `--queue`, below .dvc/tmp: the nearest .venv upward is ours.
        git config --local filter.notebook.clean \
            "sh -c 'd=.; until [ -x \$d/$VENV/bin/python ] || [ \$d -ef / ]; do d=\$d/..; done; exec \$d/$VENV/bin/python -m fasa.pipeline.strip -'"
    else
        "$VENV/bin/dvc" config --local core.no_scm true # a ZIP: every dvc command would ask for git
    fi
}

# The frame of the page of `dvc plots show`: with the scripts that DVC otherwise loads from the network.
write_plots_page() {
    "$VENV/bin/python" -m fasa.report.plots_page $VENV/plots.html
    "$VENV/bin/dvc" config --local plots.html_template ../$VENV/plots.html
}

main() {
    cd "$(dirname "${BASH_SOURCE[0]}")"
    check_machine
    create_venv
    install_packages
    configure_checkout
    write_plots_page
    rm $VENV/.incomplete
    place >$VENV/.ready
    say "Ready. To work by hand: source $VENV/bin/activate"
}

[[ ${BASH_SOURCE[0]} != "$0" ]] || main
