"""What kernels must keep. Each rule gives complaints, one text each; none means that it is kept."""

import re
from dataclasses import dataclass

from .cubin import Kernel
from .nvrtc import HOST_READS

Kernels = dict[str, dict[str, Kernel]]
"""Kernels by architecture and name."""

# Bytes that a kernel may keep in local memory, with the reason. Whatever is not named here must live in registers.
ALLOWED_STACK_BYTES: dict[str, int] = {}

# A table kernel must find room five times on an SM of the card with the least shared memory, Turing: otherwise too few warps hide each other's waits.
TABLE_KERNELS = re.compile(r"table_[2-7]$")
TABLE_SHARED_BYTES = 64 * 1024 // 5


@dataclass(frozen=True)
class Probe:
    """A kernel that does one stage's inner work and nothing else, so that its instructions can be counted."""

    what: str
    units: int  # how often the kernel does the work
    floor: float  # instructions of one unit, counted on a prototype for sm_90
    limit: float  # the most a unit may take, as a multiple of the floor


# Hashes: a message of 3 to 6 words that are not zero took 615 to 666 instructions, here spread evenly. Only words that are not zero are added.
PROBES = {
    "probe_match": Probe("cell of the match loop: 128 columns of one left row against one right row", 64, 10.1, 1.5),
    "probe_hash_2": Probe("hash for table 2: 66 bits, 3 words", 1, 615, 1.15),
    "probe_hash_3": Probe("hash for table 3: 106 bits, 4 words", 1, 632, 1.15),
    "probe_hash_4": Probe("hash for table 4: 186 bits, 6 words", 1, 666, 1.15),
    "probe_hash_5": Probe("hash for table 5: 186 bits, 6 words", 1, 666, 1.15),
    "probe_hash_6": Probe("hash for table 6: 146 bits, 5 words", 1, 649, 1.15),
    "probe_hash_7": Probe("hash for table 7: 106 bits, 4 words", 1, 632, 1.15),
    "probe_chacha": Probe("ChaCha8 block", 1, 407, 1.15),
    # No aim, only so that it does not get worse: it is 2.4 to 3.2 times the floor today, because of its carries.
    "probe_product": Probe("Montgomery product of two scalars", 1, 195, 3.3),
}

# A probe far under its floor lost its work to the optimizer, or does it in a loop.
LEAST_SHARE_OF_FLOOR = 0.8


def per_unit(kernel: Kernel, probe: Probe) -> float:
    """Arithmetic instructions of one unit: loads, stores and control are the probe's own, not the work's."""
    return kernel.arithmetic / probe.units


def names_complaints(ptx: str, expected: list[str]) -> list[str]:
    """The PTX has exactly the kernels that the host asks for by name, and shows it the one variable that it reads."""
    hidden = [] if re.search(rf"^\.visible \.global .* {HOST_READS}\[", ptx, re.MULTILINE) else [f"{HOST_READS} is not in farmer.cu, or hidden from the host"]
    found = set(re.findall(r"\.visible \.entry (\w+)\(", ptx))
    missing = [f"{name} is named by interface.h and not in farmer.cu" for name in expected if name not in found]
    return hidden + missing + [f"{name} is in farmer.cu and not named by interface.h" for name in sorted(found - set(expected))]


def memory_complaints(kernels: Kernels) -> list[str]:
    """Nothing spills, local memory is used only where it is allowed, table kernels leave room for five blocks."""
    complaints = []
    for architecture, name, kernel in each(kernels):
        where = f"{name} on {architecture}"
        if kernel.spill_bytes:
            complaints.append(f"{where}: {kernel.spill_bytes} bytes of spills; it wants more registers than __launch_bounds__ leave it")
        allowed = ALLOWED_STACK_BYTES.get(name, 0)
        if kernel.stack_bytes > allowed:
            complaints.append(f"{where}: {kernel.stack_bytes} bytes of local memory, {allowed} are allowed (an array with an index known only at run time?)")
        if TABLE_KERNELS.match(name) and kernel.shared_bytes > TABLE_SHARED_BYTES:
            complaints.append(f"{where}: {kernel.shared_bytes} bytes of shared memory; five blocks on a Turing SM have {TABLE_SHARED_BYTES} each")
    return complaints


def probe_complaints(kernels: Kernels) -> list[str]:
    """Every probe is there, does its work, and stays within its multiple of the floor, on every architecture."""
    complaints = []
    for architecture, by_name in kernels.items():
        for name, probe in PROBES.items():
            if name not in by_name:
                complaints.append(f"{name} is not in probes.cu")
                continue
            count = per_unit(by_name[name], probe)
            if count > probe.limit * probe.floor:
                complaints.append(f"{name} on {architecture}: {count:.1f} instructions, more than {probe.limit} x the floor of {probe.floor}")
            if count < LEAST_SHARE_OF_FLOOR * probe.floor:
                complaints.append(f"{name} on {architecture}: {count:.1f} instructions, too few to be the work whose floor is {probe.floor}")
    return complaints


def count_complaints(kernels: Kernels, committed: dict) -> list[str]:
    """No kernel takes more than the committed figures say, and they speak of exactly these kernels."""
    complaints = []
    for architecture, name, kernel in each(kernels):
        figures = committed.get(architecture, {}).get(name)
        if figures is None:
            complaints.append(f"{name} on {architecture}: no committed figures")
            continue
        for what, now in figures_of(kernel).items():
            if now > figures[what]:
                complaints.append(f"{name} on {architecture}: {what} {now}, committed {figures[what]}")
    for architecture, by_name in committed.items():
        for name in by_name:
            if name not in kernels.get(architecture, {}):
                complaints.append(f"{name} on {architecture}: committed figures without a kernel")
    return complaints


def improvements(kernels: Kernels, committed: dict) -> list[str]:
    """Where kernels take less than the committed figures."""
    better = []
    for architecture, name, kernel in each(kernels):
        for what, now in figures_of(kernel).items():
            before = committed.get(architecture, {}).get(name, {}).get(what, now)
            if now < before:
                better.append(f"{name} on {architecture}: {what} {now}, committed {before}")
    return better


def figures_of(kernel: Kernel) -> dict[str, int]:
    """What is committed of a kernel."""
    return {"instructions": kernel.instructions, "registers": kernel.registers, "shared_bytes": kernel.shared_bytes}


def each(kernels: Kernels):
    """All kernels as (architecture, name, kernel)."""
    for architecture, by_name in kernels.items():
        for name, kernel in by_name.items():
            yield architecture, name, kernel
