"""CUDA C++ to PTX with NVRTC, which is only a library: no driver, no toolkit, no GPU."""

import ctypes
import re
from pathlib import Path

# One PTX for every card: drivers compile it for the card they find. docs/GPU.md says why there is no second one.
TARGET = "compute_70"

# Functions and constants without `__device__` are the device's: the sources are C++ for the shim too, which knows no such word.
OPTIONS = (f"--gpu-architecture={TARGET}", "--std=c++17", "--device-as-default-execution-space")

# The variable that the host reads; `LAYOUT_NAME` in src/device/cuda/module.rs.
HOST_READS = "layout"

HEADER_SUFFIXES = (".h", ".cuh")


class CompileError(Exception):
    """What the compiler said of the sources."""


def compile_ptx(library: Path, source: Path, *more_options: str) -> str:
    """The PTX of one translation unit, normalised. It may include the headers beside it, by name; they are given as text, so that no path of
    this machine gets into the result."""
    nvrtc = ctypes.CDLL(str(library))
    headers = sorted(path for path in source.parent.iterdir() if path.suffix in HEADER_SUFFIXES)
    program = ctypes.c_void_p()
    call(
        nvrtc.nvrtcCreateProgram,
        ctypes.byref(program),
        source.read_bytes(),
        source.name.encode(),
        len(headers),
        strings([path.read_bytes() for path in headers]),
        strings([path.name.encode() for path in headers]),
    )
    try:
        options = [option.encode() for option in OPTIONS + more_options]
        failed = nvrtc.nvrtcCompileProgram(program, len(options), strings(options))
        log = text_of(nvrtc, program, "ProgramLog")
        if failed or log.strip():  # a warning is an error, too
            raise CompileError(f"{source.name}: NVRTC says:\n{log}")
        return shown_to_host(normalise(text_of(nvrtc, program, "PTX")))
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def normalise(ptx: str) -> str:
    """The same sources give the same text: NVRTC puts a random number into the names of what only one translation unit sees."""
    return re.sub(r"(_INTERNAL_|_GLOBAL__N__)[0-9a-f]{8}_", r"\g<1>00000000_", ptx)


def shown_to_host(ptx: str) -> str:
    """NVRTC makes every variable one of the module alone. The host reads this one by its name, so assemblers must keep that."""
    return re.sub(rf"^(\.global .* {HOST_READS}\[)", r".visible \1", ptx, flags=re.MULTILINE)


def strings(items: list[bytes]) -> ctypes.Array:
    """A `const char* const*`."""
    return (ctypes.c_char_p * len(items))(*items)


def text_of(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> str:
    """A text that NVRTC holds. Its size counts the NUL at the end, which newer assemblers refuse in a file."""
    size = ctypes.c_size_t()
    call(getattr(nvrtc, f"nvrtcGet{what}Size"), program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    call(getattr(nvrtc, f"nvrtcGet{what}"), program, buffer)
    return buffer.raw.rstrip(b"\0").decode()


def call(function: object, *arguments: object) -> None:
    """Calls what must not fail whatever the sources are."""
    code = function(*arguments)
    if code != 0:
        raise RuntimeError(f"{function.__name__} gave {code}")
