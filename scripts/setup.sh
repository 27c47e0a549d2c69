#!/bin/sh
# Installs the system packages that building and testing need, if any is missing.
set -eu

missing=
need() { # COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need cc build-essential
need git git
need python3 python3
need pkg-config pkg-config
# What the crate `topology` is linked with.
for library in hwloc libudev; do
    pkg-config --exists "$library" 2>/dev/null || missing="$missing lib${library#lib}-dev"
done
python3 -m pip --version >/dev/null 2>&1 || missing="$missing python3-pip"

if ! command -v cargo >/dev/null 2>&1; then
    echo "setup: cargo is missing: install Rust from https://rustup.rs, then run this again" >&2
    exit 1
fi
if [ -n "$missing" ]; then
    echo "setup: installing$missing" >&2
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -qq
    # shellcheck disable=SC2086 # a list of names
    $sudo apt-get install -y -qq --no-install-recommends $missing
fi
