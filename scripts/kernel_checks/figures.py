"""The figures in docs/GPU.md: instructions of a unit of work against the floor, and how many blocks of a kernel an SM holds."""

import re
from dataclasses import dataclass

from .cubin import Kernel
from .rules import PROBES, Kernels, per_unit

# Where the floor was counted; figures by class are of this architecture.
FLOOR_ARCHITECTURE = "sm_90"

BEGIN, END = "<!-- written by make kernels -->", "<!-- end of what make kernels writes -->"


@dataclass(frozen=True)
class Processor:
    """What blocks share on one SM (CUDA C++ programming guide, compute capabilities)."""

    shared_bytes: int
    reserved_bytes: int  # of shared memory, for each block
    threads: int
    blocks: int
    registers: int = 65536


PROCESSORS = {
    "sm_75": Processor(64 << 10, 0, 1024, 16),
    "sm_86": Processor(100 << 10, 1024, 1536, 16),
    "sm_90": Processor(228 << 10, 1024, 2048, 32),
}


def blocks_per_processor(kernel: Kernel, threads: int, processor: Processor) -> int:
    """How many blocks run on one SM at a time. A warp's registers are given out in steps of 256, a block's warps to four schedulers, shared
    memory in steps of 256 bytes (Turing) or 128."""
    warps = -(-threads // 32)
    warp_registers = -(-kernel.registers * 32 // 256) * 256
    by_registers = processor.registers // 4 // warp_registers * 4 // warps
    shared = -(-kernel.shared_bytes // 256) * 256 + processor.reserved_bytes
    by_shared = processor.shared_bytes // shared if shared else processor.blocks
    return min(by_registers, by_shared, processor.threads // threads, processor.blocks)


def threads_of(ptx: str) -> dict[str, int]:
    """Threads of a block by kernel, of `__launch_bounds__`."""
    return {name: int(threads) for name, threads in re.findall(r"\.entry (\w+)\([^)]*\)\s*\.maxntid (\d+),", ptx)}


def document(kernels: Kernels, ptx: str) -> str:
    """The part of docs/GPU.md that is made here."""
    return "\n".join([BEGIN, "", *probe_table(kernels), "", *kernel_table(kernels, threads_of(ptx)), "", END])


def probe_table(kernels: Kernels) -> list[str]:
    """A line a probe."""
    architectures = list(kernels)
    lines = [
        f"| work | floor | {FLOOR_ARCHITECTURE} | of the floor | limit | ALU | multiply-add | uniform | other architectures |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, probe in PROBES.items():
        kernel = kernels[FLOOR_ARCHITECTURE][name]
        count = per_unit(kernel, probe)
        parts = [kernel.classes[part] / probe.units for part in ("alu", "imad", "uniform")]
        others = ", ".join(f"{plain(per_unit(kernels[other][name], probe))} ({other[3:]})" for other in architectures if other != FLOOR_ARCHITECTURE)
        cells = [probe.what, plain(probe.floor), plain(count), f"{count / probe.floor:.2f}", f"{probe.limit}", *map(plain, parts), others]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def kernel_table(kernels: Kernels, threads: dict[str, int]) -> list[str]:
    """A line a kernel."""
    occupancy = " | ".join(f"{architecture}: registers / blocks an SM" for architecture in PROCESSORS)
    lines = [
        f"| kernel | threads | shared bytes | instructions ({FLOOR_ARCHITECTURE}) | ALU | multiply-add | memory | {occupancy} |",
        "|---" * (7 + len(PROCESSORS)) + "|",
    ]
    for name, kernel in kernels[FLOOR_ARCHITECTURE].items():
        if name in PROBES:
            continue
        cells = [name, str(threads.get(name, "any")), str(kernel.shared_bytes), str(kernel.instructions)]
        cells += [str(kernel.classes[part]) for part in ("alu", "imad", "memory")]
        for architecture, processor in PROCESSORS.items():
            here = kernels[architecture][name]
            blocks = blocks_per_processor(here, threads[name], processor) if name in threads else "?"
            cells.append(f"{here.registers} / {blocks}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def plain(number: float) -> str:
    """With one digit after the point, where there is one to show."""
    return f"{number:.1f}".removesuffix(".0")


def replace(text: str, made: str) -> str | None:
    """The document with the made part in its place; none where it has no such place."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    return before + made + after if begin and end else None
