"""NVIDIA's compiler, assembler and disassembler in <workspace>/.tools: nothing else of the machine is touched.

They come from PyPI at pinned versions and hashes (requirements.txt) and are never part of this repository, whose licence they do not have.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

WORKSPACE = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path(__file__).with_name("requirements.txt")

# What is kept of the wheels, by its path in them.
NVRTC = Path("nvidia/cuda_nvrtc/lib/libnvrtc.so.12")
NVRTC_BUILTINS = Path("nvidia/cuda_nvrtc/lib/libnvrtc-builtins.so.12.0")
PTXAS = Path("nvidia/cu13/bin/ptxas")
NVDISASM = Path("nvidia/cu13/bin/nvdisasm")


@dataclass(frozen=True)
class Tools:
    """Paths of the installed tools."""

    nvrtc: Path
    ptxas: Path
    nvdisasm: Path


def install() -> Tools:
    """The tools, fetched first where they are not there yet. Another set of versions goes to another folder."""
    pins = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    target = WORKSPACE / ".tools" / f"cuda-{pins}"
    if not target.is_dir():
        fetch(target)
    return Tools(*(target / path.name for path in (NVRTC, PTXAS, NVDISASM)))


def fetch(target: Path) -> None:
    """Installs aside and renames, so that two at once or one killed half-way do no harm."""
    print("fetching NVRTC 12.0, ptxas 13.0 and nvdisasm from PyPI (65 MB)", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="install.", dir=target.parent) as aside:
        wheels, kept = Path(aside, "wheels"), Path(aside, "kept")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"]
        command += ["--no-deps", "--require-hashes", "--requirement", str(REQUIREMENTS), "--target", str(wheels)]
        if subprocess.run(command).returncode != 0:
            raise SystemExit("kernels: PyPI did not give the tools (see above); x86-64 Linux and a way to PyPI are needed")
        kept.mkdir()
        for path in (NVRTC, NVRTC_BUILTINS, PTXAS, NVDISASM):
            shutil.copyfile(wheels / path, kept / path.name)
            (kept / path.name).chmod(0o755)
        try:
            os.rename(kept, target)
        except OSError:
            if not target.is_dir():
                raise
