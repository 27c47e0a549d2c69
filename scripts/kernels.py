#!/usr/bin/env python3
"""Builds and checks the GPU kernels: `kernels.py build` (make kernels), `check` (make kernels-check), `count` (the figures alone), `small` (the PTX at
K = 17 to the standard output, for `util kernel-check`).

docs/GPU.md says what is checked and why. Needs Python 3.10, x86-64 Linux, and PyPI the first time; no GPU, no driver.
"""

import sys
import time

sys.dont_write_bytecode = True

from kernel_checks import figures, tools, tree  # noqa: E402
from kernel_checks.cubin import AssemblerError  # noqa: E402
from kernel_checks.nvrtc import CompileError, compile_ptx  # noqa: E402


def main() -> int:
    """Does one command; 0 if there is nothing to complain about."""
    commands = {"build": tree.build, "check": tree.check, "count": count, "small": small}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        print(__doc__, file=sys.stderr)
        return 2
    begun = time.monotonic()
    try:
        complaints = commands[sys.argv[1]](tools.install(), tree.Tree())
    except (AssemblerError, CompileError) as error:
        complaints = [str(error)]
    for complaint in complaints:
        print(f"FAILED: {complaint}", file=sys.stderr)
    print(f"kernels {sys.argv[1]}: {len(complaints)} complaints, {time.monotonic() - begun:.0f} s", file=sys.stderr)
    return 1 if complaints else 0


def count(found: tools.Tools, where: tree.Tree) -> list[str]:
    """Prints the tables of docs/GPU.md."""
    made = tree.make(found, where)
    print(figures.document(made.kernels, made.farmer))
    return []


def small(found: tools.Tools, where: tree.Tree) -> list[str]:
    """Prints the PTX of the kernels at K = 17."""
    print(compile_ptx(found.nvrtc, where.kernels / "farmer.cu", "--define-macro=LAYOUT_OF=17"))
    return []


if __name__ == "__main__":
    sys.exit(main())
