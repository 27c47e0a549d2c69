"""Where kernels and what is made of them lie, and the three things one does with them: build, check, count."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from . import figures, rules
from .cubin import ARCHITECTURES, assemble_all
from .nvrtc import compile_ptx
from .rules import Kernels
from .tools import WORKSPACE, Tools


@dataclass(frozen=True)
class Tree:
    """Paths. `farmer.cu` becomes the PTX that is embedded, `probes.cu` is only counted."""

    kernels: Path = WORKSPACE / "gpu/kernels"
    document: Path = WORKSPACE / "docs/GPU.md"
    architectures: tuple[str, ...] = ARCHITECTURES

    @property
    def ptx(self) -> Path:
        """The PTX that is checked in."""
        return self.kernels / "ptx/farmer_sm_70.ptx"

    @property
    def counts(self) -> Path:
        """The figures that are checked in."""
        return self.kernels / "instruction_counts.json"

    def kernel_names(self) -> list[str]:
        """What `KERNELS` in interface.h names, in its order."""
        return re.findall(r"^ +NAME\((\w+), \w+\)", (self.kernels / "interface.h").read_text(encoding="utf-8"), re.MULTILINE)


@dataclass(frozen=True)
class Made:
    """What the sources give."""

    farmer: str
    probes: str
    kernels: Kernels


def make(tools: Tools, tree: Tree) -> Made:
    """Compiles and assembles everything."""
    farmer = compile_ptx(tools.nvrtc, tree.kernels / "farmer.cu")
    probes = compile_ptx(tools.nvrtc, tree.kernels / "probes.cu")
    print(f"compiled: farmer.cu to {len(farmer):,} bytes of PTX, probes.cu to {len(probes):,}", flush=True)
    assembled = assemble_all(tools, {"farmer": farmer, "probes": probes}, tree.architectures)
    order = [*tree.kernel_names(), *rules.PROBES]
    kernels = {architecture: in_order(by_name, order) for architecture, by_name in assembled.items()}
    total = sum(len(by_name) for by_name in kernels.values())
    print(f"assembled: {total} kernels in all for {', '.join(tree.architectures)}", flush=True)
    return Made(farmer, probes, kernels)


def in_order(by_name: dict, order: list[str]) -> dict:
    """The same, names in the given order, others last."""
    return {name: by_name[name] for name in [*order, *sorted(by_name)] if name in by_name}


def build(tools: Tools, tree: Tree) -> list[str]:
    """Writes PTX, figures and the part of the document; gives complaints about what it wrote."""
    made = make(tools, tree)
    complaints = rules_complaints(tree, made)
    tree.ptx.parent.mkdir(exist_ok=True)
    tree.ptx.write_text(made.farmer, encoding="utf-8")
    tree.counts.write_text(json_of(made.kernels), encoding="utf-8")
    document = document_of(tree, made)
    if document is None:
        complaints.append(f"{tree.document} has no place for the figures")
    else:
        tree.document.write_text(document, encoding="utf-8")
    return complaints


def check(tools: Tools, tree: Tree) -> list[str]:
    """Complaints about the kernels and about what is checked in of them."""
    made = make(tools, tree)
    committed = json.loads(tree.counts.read_text(encoding="utf-8"))
    complaints = rules_complaints(tree, made) + rules.count_complaints(made.kernels, committed)
    better = rules.improvements(made.kernels, committed)
    if better:
        print("\n".join(["better than committed (make kernels writes it down):", *better]))
    if tree.ptx.read_text(encoding="utf-8") != made.farmer:
        complaints.append(f"{tree.ptx} is not what farmer.cu gives: make kernels")
    if not complaints and not better and tree.document.read_text(encoding="utf-8") != document_of(tree, made):
        complaints.append(f"{tree.document} has other figures than the kernels: make kernels")
    return complaints


def rules_complaints(tree: Tree, made: Made) -> list[str]:
    """Of all rules that need no committed figures."""
    names = rules.names_complaints(made.farmer, tree.kernel_names())
    return names + rules.memory_complaints(made.kernels) + rules.probe_complaints(made.kernels)


def document_of(tree: Tree, made: Made) -> str | None:
    """The document with the figures of these kernels; none where it has no place for them or a probe is missing."""
    if any(name not in made.kernels[figures.FLOOR_ARCHITECTURE] for name in rules.PROBES):
        return None
    return figures.replace(tree.document.read_text(encoding="utf-8"), figures.document(made.kernels, made.farmer))


def json_of(kernels: Kernels) -> str:
    """The figures, a line a kernel, so that a change reads well."""
    parts = []
    for architecture, by_name in kernels.items():
        lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(rules.figures_of(kernel))}" for name, kernel in by_name.items())
        parts.append(f"  {json.dumps(architecture)}: {{\n{lines}\n  }}")
    return "{\n" + ",\n".join(parts) + "\n}\n"
