#!/bin/sh
# Builds the CPU kernels and the circuit library without torch, with AddressSanitizer and UBSan, and runs their drivers on
# every instruction set.
#   tests/ext/sanitize.sh [folder for the build]
# CXX, CHECKS (in place of the sanitizers) and RUN (before each program) serve other processors and their emulator:
#   CXX=aarch64-linux-gnu-g++ CHECKS=-static RUN=qemu-aarch64 tests/ext/sanitize.sh
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
out=${1:-$(mktemp -d)}
mkdir -p "$out"
cxx=${CXX:-g++}
machine=$($cxx -dumpmachine)
run=${RUN:-}
flags="-std=c++20 -O1 -g -Wall -Wextra -Wno-psabi -ffp-contract=off -fno-omit-frame-pointer
  ${CHECKS--fsanitize=address,undefined -fno-sanitize-recover=all}"

circuit="$flags -I$root/ext/circuit"
parts=""
set_of() { # name, flags: the kernels for one instruction set
  name=$1
  shift
  for kernels in "$root"/ext/circuit/*kernels.cpp; do
    object="$out/$(basename "$kernels" .cpp)_$name.o"
    $cxx $circuit -DLGN_SET="$name" "$@" -c "$kernels" -o "$object"
    parts="$parts $object"
  done
}
set_of Generic
case $machine in
x86_64*)
  set_of Avx2 -mavx2
  # gcc 12 takes the intrinsics' own undefined values for ours (its bug 105593).
  set_of Avx512 -mavx512f -mavx512bw -mavx512vl -mavx512dq -Wno-maybe-uninitialized
  ;;
esac
for part in "$root"/ext/circuit/*.cpp; do
  case $part in
  *kernels.cpp) ;; # compiled above
  *) parts="$parts $part" ;;
  esac
done
$cxx $circuit "$root/tests/ext/circuit_driver.cpp" $parts -o "$out/circuit_driver" -pthread
$run "$out/circuit_driver"

flags="$flags -I$root/ext/cpu"
objects="-DLGN_ISA=baseline -DLGN_WITH_F64"
case $machine in
x86_64*)
  sets="baseline avx2 avx512"
  $cxx $flags -DLGN_ISA=avx2 -mavx2 -mfma -c "$root/ext/cpu/isa.cpp" -o "$out/avx2.o" &
  first=$!
  # As above.
  $cxx $flags -Wno-maybe-uninitialized -DLGN_ISA=avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma \
    -c "$root/ext/cpu/isa.cpp" -o "$out/avx512.o"
  wait $first
  vector_objects="-DLGN_HAS_AVX2 -DLGN_HAS_AVX512 $out/avx2.o $out/avx512.o"
  ;;
*)
  sets="baseline"
  vector_objects=""
  ;;
esac
$cxx $flags $objects -c "$root/ext/cpu/isa.cpp" -o "$out/baseline.o"
drivers=$(ls "$root"/tests/ext/*_driver.cpp | grep -v circuit_driver)
sources=$(grep -LE 'at::|TORCH_' "$root"/ext/cpu/*.cpp | grep -v isa.cpp) # those without torch
$cxx $flags $drivers $sources "$out/baseline.o" $vector_objects -o "$out/kernel_driver" -pthread
for set in $sets; do
  LGN_CPU_ISA=$set $run "$out/kernel_driver"
done
