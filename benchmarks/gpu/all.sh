#!/usr/bin/env bash
# Everything on one GPU within 9.5 minutes: the benchmark first, alone, then Tables 3 and 4's classifier.
#
#   bash benchmarks/gpu/all.sh OUT_DIR [SECONDS]    # from the root; SECONDS in all, 560 if not given
#
# Takes wheels from .whl (what the machine's Python lacks) and images from .gpu-data, see README.md. Leaves
# OUT_DIR/results.jsonl, records.tgz and two logs.
set -uo pipefail

out=$1 total=${2:-560}
mkdir -p "$out"
export OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1 PYTHONWARNINGS=ignore TORCH_CUDA_ARCH_LIST=9.0
site=/tmp/fasa-site records=/tmp/fasa-records
mkdir -p "$records"

if compgen -G '.whl/*.whl' >/dev/null && [[ ! -e $site ]]; then
    python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target $site .whl/*.whl
fi
export PYTHONPATH=$site:$PWD

# The classifier needs most of the time, so the benchmark may not overrun its own.
OMP_NUM_THREADS=8 timeout -k 5 $((total * 2 / 5)) python3 -m benchmarks.gpu.run "$out" \
    --minutes "$(awk "BEGIN { print $total * 0.33 / 60 }")" 2>&1 | tee "$out/run.log"

# classify ARGUMENTS...: takes up what an earlier call left, and ends in time.
classify() {
    local left=$((total - SECONDS - 15))
    ((left > 45)) || return 0
    timeout -k 5 $((left + 10)) python3 -m benchmarks.gpu.cifar "$records" --data .gpu-data/cifar-100-lt.zip --leaky \
        --minutes "$(awk "BEGIN { print ($left - 15) / 60 }")" "$@" 2>&1 | tee -a "$out/cifar.log"
}

classify
if compgen -G "$records/*.error" >/dev/null; then # graphs or threads may be at fault: the plainest way
    for file in "$records"/*.error; do mv "$file" "$file.first"; done
    classify --no-graphs --processes 12 --at-once 1
fi
tar -czf "$out/records.tgz" -C "$records" .
