#!/usr/bin/env bash
# The first minutes on a GPU, in the order of value: kernels built and compared with the reference, the tests for a GPU,
# the times of gpu.py, the memory errors and races that compute-sanitizer finds.
#
#   benchmarks/first_gpu.sh FOLDER SECONDS [--dry-run] [--root data]
#
# Ends after SECONDS, with status 3, and goes on where it stopped when it is called again with the same FOLDER, which
# has a log and an exit status of each part and gpu.json. A part that takes longer than its limit has failed and is not
# tried again. The exit status is 1 if a part failed.
# PYTHON is the interpreter (python3). ORIGINAL and CONVLOGIC are folders that hold difflogic and convlogic with
# their CUDA modules, if they are to be timed, too. --dry-run shows without a GPU that each part starts and writes.
set -uo pipefail

[ $# -ge 2 ] || { sed -n '5p' "$0" | cut -c3- >&2; exit 2; }
mkdir -p "$1" || exit 2
folder=$(cd "$1" && pwd) end=$((SECONDS + $2))
shift 2
bench=("$@") python=${PYTHON:-python3}
cd "$(dirname "$0")/.." || exit 2
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1

# part NAME LIMIT COMMAND...: runs what has no exit status yet, within its limit and what is left of all.
part() {
    local name=$1 limit=$2 left=$((end - SECONDS)) status
    shift 2
    [ ! -e "$folder/$name.status" ] || return 0
    [ "$left" -gt 5 ] || { echo "no time is left for $name: call again" >&2; exit 3; }
    timeout --kill-after=10 $((left < limit ? left : limit)) "$@" >>"$folder/$name.log" 2>&1
    status=$?
    if [ "$status" -eq 124 ] && [ "$left" -lt "$limit" ]; then # all of the time is over, not that of this part
        echo "$name goes on in the next call" >&2
        exit 3
    fi
    echo "$status" >"$folder/$name.status"
    echo "$name: exit status $status" >&2
}

# Times in gpu.json; a part of gpu.py that hangs ends the process with SIGALRM, and the next one goes on past it.
times() {
    until "$python" benchmarks/gpu.py --json "$folder/gpu.json" --resume --part-seconds 90 "$@"; do
        [ $? -eq $((128 + 14)) ] || return 1
    done
}
export -f times
export folder python

for file in tests/cuda/test_*.py; do
    part "$(basename "$file" .py)" 90 "$python" -m pytest -q -p no:cacheprovider -m cuda "$file"
done
part times 900 env PYTHONPATH="${ORIGINAL:+$ORIGINAL:}$PYTHONPATH" bash -c 'times "$@"' bash "${bench[@]}"
if [ -n "${CONVLOGIC:-}" ]; then
    part times_convlogic 300 env PYTHONPATH="$CONVLOGIC:$PYTHONPATH" bash -c 'times "$@"' bash --peer convlogic "${bench[@]}"
fi
command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not here" >&2; tools=; }
few="two_runs or stack or gate_ids or papers_kind or learned_leaves_twice or (packed and 129)" # a kernel each, and small
for tool in ${tools-memcheck racecheck}; do
    part "$tool" 240 compute-sanitizer --tool "$tool" --error-exitcode 9 --target-processes all \
        "$python" -m pytest -q -p no:cacheprovider -m cuda tests/cuda -k "$few"
done
grep -L '^0$' "$folder"/*.status | sed 's/\.status$/.log/; s/^/failed, see /' >&2
! grep -qv '^0$' "$folder"/*.status
