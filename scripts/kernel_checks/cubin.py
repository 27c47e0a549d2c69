"""What an assembler makes of PTX: registers, shared memory, spills, and the instructions of each kernel by the unit that runs them."""

import re
import subprocess
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from os import cpu_count
from pathlib import Path

from .tools import Tools

# Every generation that the assembler knows and operators have: Turing, Ampere (two), Ada, Hopper, Blackwell (two).
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")

# Which unit of an SM runs an instruction; the first that matches. The ALU pipe (logic, shifts, additions) is the floor of the work: 64 lanes an SM.
# Multiply-adds run beside it, and compilers use them for additions and moves when they would wait otherwise. A warp issues one instruction a
# cycle whatever the unit, uniform ones included.
CLASSES = (
    ("memory", r"U?LD|ST(?!ACK)|ATOM|RED|SHFL|CCTL|MEMBAR|ERRBAR|FENCE|UCGABAR"),
    ("control", r"BAR|BRA|BRX|BMOV|BPT|BREAK|BSSY|BSYNC|CALL|EXIT|RET|WARPSYNC|YIELD|NANOSLEEP|DEPBAR|S2R|CS2R|S2UR|VOTE|MATCH|ELECT|ENDCOLLECTIVE|ACQBULK|PREEXIT|KILL|RPCMOV|BMSYNC"),
    ("quarter", r"POPC|FLO|BREV|MUFU|I2F|F2I|UPOPC|UFLO|UBREV"),
    ("uniform", r"U(?!P2)|R2UR|REDUX"),
    ("imad", r"IMAD|FFMA|FMUL|FADD|HFMA2|HADD2|HMUL2"),
    ("alu", r"LOP3|SHF|SHL|SHR|IADD|VIADD|ISETP|SEL|FSEL|LEA|PRMT|PLOP3|IABS|IMNMX|VIMNMX|MOV|P2R|R2P|BMSK|SGXT|CSEL|VHMNMX|IDP|FSETP|CREDUX"),
)


@dataclass
class Kernel:
    """One kernel on one architecture."""

    registers: int
    shared_bytes: int
    stack_bytes: int
    spill_bytes: int
    instructions: int = 0
    classes: Counter = field(default_factory=Counter)

    @property
    def arithmetic(self) -> int:
        """Instructions that compute: all but memory and control."""
        return self.instructions - self.classes["memory"] - self.classes["control"]


class AssemblerError(Exception):
    """What ptxas said of the PTX."""


def assemble_all(tools: Tools, units: dict[str, str], architectures: tuple[str, ...]) -> dict[str, dict[str, Kernel]]:
    """Kernels by architecture and name. `units` are PTX texts by name; their kernels' names differ."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(cpu_count()) as pool:
        for name, ptx in units.items():
            Path(folder, f"{name}.ptx").write_text(ptx, encoding="utf-8")
        jobs = {}
        for architecture in architectures:
            for name in units:
                jobs[architecture, name] = pool.submit(assemble, tools, Path(folder, f"{name}.ptx"), architecture)
        kernels = {architecture: {} for architecture in architectures}
        for (architecture, _), job in jobs.items():
            kernels[architecture].update(job.result())
    return kernels


def assemble(tools: Tools, ptx: Path, architecture: str) -> dict[str, Kernel]:
    """Kernels of one PTX file on one architecture."""
    cubin = ptx.with_suffix(f".{architecture}.cubin")
    command = [tools.ptxas, "--verbose", f"--gpu-name={architecture}", ptx, "--output-file", cubin]
    run = subprocess.run(command, capture_output=True, encoding="utf-8")
    if run.returncode != 0:
        raise AssemblerError(f"{ptx.name} for {architecture}: ptxas says:\n{run.stdout}{run.stderr}")
    kernels = parse_usage(run.stdout + run.stderr)
    listing = subprocess.run([tools.nvdisasm, "--print-code", cubin], capture_output=True, encoding="utf-8", check=True).stdout
    try:
        count_into(kernels, parse_listing(listing))
    except AssemblerError as error:
        raise AssemblerError(f"{ptx.name} for {architecture}: {error}") from error
    return kernels


def count_into(kernels: dict[str, Kernel], functions: dict[str, Counter]) -> None:
    """Counts the operations of each function for the kernel of its name. What a kernel calls without inlining is in the kernel's own code."""
    for name, operations in functions.items():
        if name not in kernels:
            raise AssemblerError(f"{name} is code outside of any kernel, whose instructions would be counted nowhere; make it __forceinline__")
        kernels[name].instructions = sum(operations.values())
        for operation, count in operations.items():
            kernels[name].classes[class_of(operation)] += count


def parse_usage(text: str) -> dict[str, Kernel]:
    """Of what `ptxas --verbose` prints: three lines a kernel."""
    kernels = {}
    for part in text.split("Compiling entry function '")[1:]:
        def number(pattern: str) -> int:
            found = re.search(pattern, part)
            return int(found[1]) if found else 0

        used = re.search(r"Used (\d+) registers", part)
        frame = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part)
        if used is None or frame is None:
            raise AssemblerError(f"ptxas printed no usage where it should: {part}")
        kernels[part.split("'", 1)[0]] = Kernel(
            registers=int(used[1]),
            shared_bytes=number(r"(\d+) bytes smem"),
            stack_bytes=int(frame[1]),
            spill_bytes=int(frame[2]) + int(frame[3]),
        )
    return kernels


def parse_listing(text: str) -> dict[str, Counter]:
    """Operations of each function, without what only fills up its end. A line is `/*0010*/ @!P0 IMAD.WIDE R2, ... ;`."""
    functions = {}
    current = None
    for line in text.splitlines():
        if section := re.match(r"\.section\s+(\S+?),|\.text\.(\S+):", line.strip()):
            if section[2]:
                current = functions.setdefault(section[2], Counter())
        elif current is not None and (found := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][A-Z0-9_.]*)", line)):
            if found[1] != "NOP":
                current[found[1]] += 1
    return functions


def class_of(operation: str) -> str:
    """The unit that runs an operation."""
    for name, pattern in CLASSES:
        if re.match(pattern, operation):
            return name
    raise AssemblerError(f"{operation} is in no class of cubin.py: add it there")
