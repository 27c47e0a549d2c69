"""Every check can fail: kernels made to break one rule each go through the real compiler and assembler, and the check must say so."""

import json
import shutil
import tempfile
import unittest
from collections import Counter
from dataclasses import replace
from pathlib import Path

from . import cubin, figures, nvrtc, rules, tools, tree

INTERFACE = """
#define KERNELS(NAME)       \\
    NAME(clear, RecordArgs) \\
    NAME(table_2, RecordArgs)
"""

FARMER = """
#include "work.cuh"
extern "C" __device__ const u32 layout[] = {1, 2};
extern "C" __global__ void __launch_bounds__(128) clear(u32* out) { out[threadIdx.x] = 0; }
extern "C" __global__ void __launch_bounds__(128) table_2(u32* out) {
    __shared__ u32 values[128];
    values[threadIdx.x] = out[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = work<10>(values[127 - threadIdx.x]);
}
"""

# Two instructions a round.
WORK = """
#pragma once
typedef unsigned int u32;
template <int ROUNDS> __device__ __forceinline__ u32 work(u32 x) {
#pragma unroll
    for (int i = 0; i < ROUNDS; i++) x ^= __funnelshift_r(x, x, 7) & 0xfffff0ff + i;
    return x;
}
"""

# Sixty values that are all needed after all of them are known, in 1024 threads, which leave 64 registers a thread on any card: with two blocks
# asked for there are 32.
SPILLING = """
extern "C" __global__ void __launch_bounds__(1024, MINIMUM) clear(u32* out) {
    u32 values[60];
#pragma unroll
    for (int i = 0; i < 60; i++) values[i] = out[i * 1024 + threadIdx.x];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 60; i++) out[(59 - i) * 1024 + threadIdx.x] = values[i] * values[(i * 7) % 60];
}
"""

STACK = """
extern "C" __global__ void __launch_bounds__(128) clear(u32* out) {
    u32 values[64] = {};
    for (u32 i = threadIdx.x; i < out[0]; i++) values[i * out[i] & 63] += i;
    for (u32 i = 0; i < 64; i++) out[i] = values[i];
}
"""


def probes() -> str:
    """Each probe does about the work of its floor."""
    lines = ['#include "work.cuh"']
    for name, probe in rules.PROBES.items():
        rounds = int(probe.floor * probe.units / 2)
        lines.append(f'extern "C" __global__ void {name}(u32* out) {{ out[threadIdx.x] = work<{rounds}>(out[threadIdx.x]); }}')
    return "\n".join(lines) + "\n"


def tree_in(folder: Path) -> tree.Tree:
    """All of it in one folder."""
    return tree.Tree(kernels=folder, document=folder / "GPU.md", architectures=tuple(figures.PROCESSORS))


class Checks(unittest.TestCase):
    """Each test changes one thing in a tree of small kernels that keeps every rule."""

    @classmethod
    def setUpClass(cls):
        cls.tools = tools.install()
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.pristine = tree_in(Path(folder.name))
        document = f"before\n{figures.BEGIN}\n{figures.END}\nafter\n"
        sources = {"interface.h": INTERFACE, "work.cuh": WORK, "farmer.cu": FARMER, "probes.cu": probes(), "GPU.md": document}
        for name, text in sources.items():
            (cls.pristine.kernels / name).write_text(text, encoding="utf-8")
        assert tree.build(cls.tools, cls.pristine) == []

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        shutil.copytree(self.pristine.kernels, folder.name, dirs_exist_ok=True)
        self.tree = tree_in(Path(folder.name))

    def write(self, name: str, text: str):
        (self.tree.kernels / name).write_text(text, encoding="utf-8")

    def edit(self, name: str, old: str, new: str):
        text = (self.tree.kernels / name).read_text(encoding="utf-8")
        self.assertIn(old, text)
        self.write(name, text.replace(old, new, 1))

    def replace_clear(self, kernel: str):
        line = next(line for line in FARMER.splitlines() if " clear(" in line)
        self.edit("farmer.cu", line, kernel)

    def complaints_of_check(self, *expected: list[str]):
        """For each of `expected` the check has a complaint with all these parts."""
        complaints = tree.check(self.tools, self.tree)
        for parts in expected:
            self.assertTrue(any(all(part in complaint for part in parts) for complaint in complaints), (parts, complaints))

    def test_unchanged_tree_passes_and_builds_the_same_again(self):
        self.assertEqual(tree.check(self.tools, self.tree), [])
        before = [path.read_text(encoding="utf-8") for path in (self.tree.ptx, self.tree.counts, self.tree.document)]
        self.assertEqual(tree.build(self.tools, self.tree), [])
        self.assertEqual(before, [path.read_text(encoding="utf-8") for path in (self.tree.ptx, self.tree.counts, self.tree.document)])
        self.assertIn(".version 8.0", before[0])
        self.assertIn("| table_2 | 128 | 512 |", before[2])

    def test_one_changed_byte_of_ptx(self):
        ptx = self.tree.ptx.read_bytes()
        at = ptx.rindex(b"ret;")
        self.tree.ptx.write_bytes(ptx[:at] + b"rEt;" + ptx[at + 4 :])
        self.complaints_of_check(["farmer_sm_70.ptx", "is not what farmer.cu gives"])

    def test_a_changed_header_changes_the_ptx(self):
        self.edit("work.cuh", "x, 7)", "x, 8)")
        self.complaints_of_check(["is not what farmer.cu gives"])

    def test_more_instructions_than_committed(self):
        self.edit("farmer.cu", "work<10>", "work<30>")
        self.complaints_of_check(["table_2 on sm_86: instructions", "committed"])

    def test_more_registers_than_committed(self):
        counts = json.loads(self.tree.counts.read_text(encoding="utf-8"))
        counts["sm_90"]["table_2"]["registers"] -= 1
        self.tree.counts.write_text(json.dumps(counts), encoding="utf-8")
        self.complaints_of_check(["table_2 on sm_90: registers"])

    def test_fewer_than_committed_is_told_and_passes(self):
        counts = json.loads(self.tree.counts.read_text(encoding="utf-8"))
        counts["sm_90"]["table_2"]["registers"] += 1
        self.tree.counts.write_text(json.dumps(counts), encoding="utf-8")
        self.assertEqual(tree.check(self.tools, self.tree), [])

    def test_no_committed_figures_and_figures_of_no_kernel(self):
        self.edit("instruction_counts.json", '"clear"', '"gone"')
        self.complaints_of_check(["clear on sm_75: no committed figures"], ["gone on sm_75: committed figures without a kernel"])

    def test_spills(self):
        self.replace_clear(SPILLING.replace("MINIMUM", "2"))
        self.complaints_of_check(["clear on sm_90", "bytes of spills"])
        self.assertTrue(any("bytes of spills" in complaint for complaint in tree.build(self.tools, self.tree)))
        # The same kernel with registers enough is no complaint.
        self.edit("farmer.cu", "(1024, 2)", "(256, 1)")
        self.assertEqual(tree.build(self.tools, self.tree), [])

    def test_local_memory(self):
        self.replace_clear(STACK)
        self.complaints_of_check(["clear on sm_75", "bytes of local memory"])

    def test_shared_memory_for_five_blocks(self):
        self.edit("farmer.cu", "values[128]", "values[3300]")
        self.complaints_of_check(["table_2 on sm_75", "13200 bytes of shared memory"])

    def test_names(self):
        self.edit("farmer.cu", " clear(", " cleared(")
        self.complaints_of_check(["clear is named by interface.h"], ["cleared is in farmer.cu"])

    def test_what_the_host_reads(self):
        self.assertIn("\n.visible .global .align 4 .b8 layout[8]", self.tree.ptx.read_text(encoding="utf-8"))
        self.edit("farmer.cu", "layout[]", "layouts[]")
        self.complaints_of_check(["layout is not in farmer.cu"])

    def test_probe_over_its_limit_under_its_floor_and_missing(self):
        self.edit("probes.cu", "probe_hash_2(u32* out) { out[threadIdx.x] = work<307>", "probe_hash_2(u32* out) { out[threadIdx.x] = work<360>")
        self.edit("probes.cu", "probe_chacha(u32* out) { out[threadIdx.x] = work<203>", "probe_chacha(u32* out) { out[threadIdx.x] = work<120>")
        self.edit("probes.cu", "probe_product", "probe_other")
        self.complaints_of_check(
            ["probe_hash_2 on sm_90", "more than 1.15 x the floor"],
            ["probe_chacha on sm_90", "too few"],
            ["probe_product is not in probes.cu"],
        )

    def test_old_figures_in_the_document(self):
        self.edit("GPU.md", "| table_2 | 128 | 512 |", "| table_2 | 128 | 513 |")
        self.complaints_of_check(["has other figures than the kernels"])

    def test_source_with_an_error_or_a_warning(self):
        self.edit("farmer.cu", "__syncthreads();", "int unused = 3;")
        with self.assertRaisesRegex(nvrtc.CompileError, "unused"):
            tree.check(self.tools, self.tree)
        self.edit("farmer.cu", "int unused = 3;", "no_such_name();")
        with self.assertRaisesRegex(nvrtc.CompileError, "no_such_name"):
            tree.check(self.tools, self.tree)


class Parts(unittest.TestCase):
    """What needs no tools."""

    def test_random_names_are_normalised(self):
        first = "_ZN38_INTERNAL_1a2b3c4d_9_farmer_cu_x1yE _GLOBAL__N__0123abcd_9_farmer_cu"
        second = "_ZN38_INTERNAL_99999999_9_farmer_cu_x1yE _GLOBAL__N__ffffffff_9_farmer_cu"
        self.assertEqual(nvrtc.normalise(first), nvrtc.normalise(second))
        self.assertEqual(nvrtc.normalise("_INTERNAL_ stays, ld.global.u32 too"), "_INTERNAL_ stays, ld.global.u32 too")

    def test_classes(self):
        expected = {
            "memory": ["LDG.E.64", "LDS.128", "STS", "ULDC.64", "LDC", "ATOMG.E.ADD", "REDG.E.MIN", "SHFL.UP", "LDL", "STL.128", "LDCU.64"],
            "control": ["EXIT", "BRA", "BAR.SYNC.DEFER_BLOCKING", "BSSY", "S2R", "S2UR", "VOTEU.ANY", "VOTE.ALL", "WARPSYNC"],
            "quarter": ["POPC", "FLO.U32", "BREV", "UPOPC"],
            "uniform": ["UIADD3", "ULOP3.LUT", "UMOV", "USHF.R.W.U32", "R2UR", "UISETP.GT"],
            "imad": ["IMAD.WIDE.U32", "IMAD.IADD", "IMAD.MOV.U32"],
            "alu": ["LOP3.LUT", "SHF.L.W.U32.HI", "IADD3", "IADD3.X", "VIADD", "LEA.HI", "PRMT", "ISETP.NE.AND", "SEL", "MOV", "PLOP3.LUT"],
        }
        for name, operations in expected.items():
            for operation in operations:
                self.assertEqual(cubin.class_of(operation), name, operation)
        with self.assertRaises(cubin.AssemblerError):
            cubin.class_of("QUANTUM.XOR")

    def test_listing(self):
        text = "\n".join(
            [
                "\t.section\t.text.clear,\"ax\",@progbits",
                ".text.clear:",
                "        /*0000*/                   LDC R1, c[0x0][0x28] ;",
                "        /*0010*/              @!P0 IADD3 R1, R1, R2, RZ ;",
                "        /*0020*/             @!UP1 BRA `(.L_x_1) ;",
                ".L_x_1:",
                "        /*0030*/                   NOP ;",
            ]
        )
        self.assertEqual(cubin.parse_listing(text), {"clear": Counter(["LDC", "IADD3", "BRA"])})

    def test_code_outside_of_kernels(self):
        kernels = {"clear": cubin.Kernel(registers=8, shared_bytes=0, stack_bytes=0, spill_bytes=0)}
        cubin.count_into(kernels, {"clear": Counter(["LDC", "IADD3", "EXIT"])})
        self.assertEqual((kernels["clear"].instructions, kernels["clear"].arithmetic), (3, 1))
        with self.assertRaisesRegex(cubin.AssemblerError, "outside"):
            cubin.count_into(kernels, {"outside": Counter(["IADD3"])})

    def test_usage_without_its_lines_is_an_error(self):
        with self.assertRaises(cubin.AssemblerError):
            cubin.parse_usage("ptxas info    : Compiling entry function 'clear' for 'sm_75'\n")

    def test_blocks_per_processor(self):
        kernel = cubin.Kernel(registers=56, shared_bytes=17012, stack_bytes=0, spill_bytes=0)
        hopper, turing = figures.PROCESSORS["sm_90"], figures.PROCESSORS["sm_75"]
        self.assertEqual(figures.blocks_per_processor(kernel, 128, turing), 3)  # by shared memory
        self.assertEqual(figures.blocks_per_processor(kernel, 128, hopper), 9)  # by registers
        bare = replace(kernel, registers=16, shared_bytes=0)
        self.assertEqual(figures.blocks_per_processor(bare, 128, turing), 8)  # by threads
        self.assertEqual(figures.blocks_per_processor(bare, 32, turing), 16)  # by blocks


if __name__ == "__main__":
    unittest.main()
