#!/bin/sh
# Runs a program on all golden vectors at the best CPU level of this machine, on those that its instructions decide at each of the others,
# and on those that kernels decide by the kernels. Each run is one thread, so there are as many at a time as there are cores.
#
# usage: conformance.sh PROGRAM FOLDER_OF_VECTORS FILE_OF_KZG_PARAMETERS
set -eu
program=$1
vectors=$2
parameters=$3
export program vectors parameters

options() { # one run a line, slow ones first
    levels=$("$program" util cpu-levels)
    for level in $(printf '%s\n' "$levels" | head -n -1); do
        echo "--cpu-level $level --only pos,erasure,kzg,sector"
    done
    echo "--backend kernel-shim --only pos,erasure,sector"
    echo "--cpu-level $(printf '%s\n' "$levels" | tail -n 1)"
}

lines=$(options)
# shellcheck disable=SC2016 # the inner shell expands them
printf '%s\n' "$lines" | xargs -P "$(nproc)" -I '{}' sh -c '
    result=passed
    # shellcheck disable=SC2086 # a list of options
    output=$("$program" util conformance "$vectors" --kzg-parameters "$parameters" $1 2>&1) || result=FAILED
    printf "%s\n%s: %s\n" "$output" "$1" "$result"
    test "$result" = passed' sh '{}'
