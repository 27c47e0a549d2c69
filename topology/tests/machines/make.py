#!/usr/bin/env python3
"""Writes the machines beside it, in hwloc's XML: what `lstopo FILE.xml` would write there, without what nobody reads."""

import itertools
from pathlib import Path

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE topology SYSTEM "hwloc2.dtd">\n<topology version="2.0">\n'


def bitmap(numbers):
    """As hwloc writes sets: 32-bit words, the highest first."""
    value = sum(1 << number for number in set(numbers))
    words = []
    while value or not words:
        words.append(f"0x{value & 0xFFFFFFFF:08x}")
        value >>= 32
    return ",".join(reversed(words))


class Writer:
    def __init__(self):
        self.lines, self.ids, self.logical = [], itertools.count(1), itertools.count()

    def open(self, type_, cpus=None, nodes=None, close=False, **more):
        attributes = {"type": type_, "gp_index": next(self.ids)}
        if cpus is not None:
            sets = {"cpuset": bitmap(cpus), "nodeset": bitmap(nodes)}
            attributes |= sets | {f"complete_{name}": value for name, value in sets.items()}
        attributes |= more
        text = " ".join(f'{name}="{value}"' for name, value in attributes.items())
        self.lines.append(f"<object {text}{'/' if close else ''}>")

    def close(self):
        self.lines.append("</object>")


def device(w, bus, kind, ids, name, os_devices):
    w.open("PCIDev", pci_busid=bus, pci_type=f"{kind} [{ids}] [0000:0000] a1", pci_link_speed="31.5", name=name)
    for os_name, os_type in os_devices:
        w.open("OSDev", close=True, name=os_name, osdev_type=os_type)
    w.close()


def devices(w, first_bus, words):
    """Devices below one host bridge, each below a bridge of its own: gpu, igpu, nic:NAME, nvme:NAME."""
    if not words:
        return
    last = first_bus + len(words)
    w.open("Bridge", bridge_type="0-1", depth=0, bridge_pci=f"0000:[{first_bus:02x}-{last:02x}]")
    for slot, word in enumerate(words, 1):
        bus, (what, _, name) = first_bus + slot, word.partition(":")
        w.open("Bridge", bridge_type="1-1", depth=1, bridge_pci=f"0000:[{bus:02x}-{bus:02x}]",
               pci_busid=f"0000:{first_bus:02x}:{slot:02x}.0", pci_type="0604 [1022:1483] [0000:0000] 00",
               pci_link_speed="0.0")
        bus_id = f"0000:{bus:02x}:00.0"
        if what == "gpu":
            device(w, bus_id, "0302", "10de:26b1", name or "AD102GL [RTX 6000 Ada Generation]", [])
        elif what == "igpu":
            device(w, bus_id, "0300", "8086:46a6", "Alder Lake-P GT2", [])
        elif what == "nic":
            device(w, bus_id, "0200", "15b3:1015", "ConnectX-4 Lx", [(name, 2)])
        else:
            device(w, bus_id, "0108", "144d:a80a", "NVMe SSD", [(name, 0)])
        w.close()
    w.close()


def machine(path, packages, extra_nodes=(), allowed=None, offline=(), unplaced=()):
    """packages: of each its nodes: (number, L3 caches: lists of cores: lists of CPUs, devices)."""
    w = Writer()
    cpus_of = lambda caches: [cpu for cores in caches for core in cores for cpu in core]
    every = [cpu for nodes in packages for _, caches, _ in nodes for cpu in cpus_of(caches)]
    numbers = [number for nodes in packages for number, _, _ in nodes] + list(extra_nodes)
    w.lines.append(
        f'<object type="Machine" gp_index="{next(w.ids)}" os_index="0" cpuset="{bitmap(every)}" '
        f'complete_cpuset="{bitmap(every + list(offline))}" allowed_cpuset="{bitmap(allowed or every)}" '
        f'nodeset="{bitmap(numbers)}" complete_nodeset="{bitmap(numbers)}" allowed_nodeset="{bitmap(numbers)}">')
    for number in extra_nodes:
        w.open("NUMANode", [], [number], os_index=number, local_memory=128 << 30, close=True)
    for index, nodes in enumerate(packages):
        package = [cpu for _, caches, _ in nodes for cpu in cpus_of(caches)]
        w.open("Package", package, [number for number, _, _ in nodes], os_index=index)
        for number, caches, words in nodes:
            cpus = cpus_of(caches)
            if len(nodes) > 1:
                w.open("Group", cpus, [number], kind=0, subkind=0)
            w.open("NUMANode", cpus, [number], os_index=number, local_memory=(256 << 30) // len(nodes), close=True)
            for cores in caches:
                in_cache = [cpu for core in cores for cpu in core]
                w.open("L3Cache", in_cache, [number], cache_size=32 << 20, depth=3, cache_linesize=64,
                       cache_associativity=16, cache_type=0)
                for core in cores:
                    w.open("Core", core, [number], os_index=next(w.logical))
                    for cpu in core:
                        w.open("PU", [cpu], [number], os_index=cpu, close=True)
                    w.close()
                w.close()
            devices(w, 0x20 * (2 * index + nodes.index((number, caches, words))), words)
            if len(nodes) > 1:
                w.close()
        w.close()
    devices(w, 0xE0, list(unplaced))
    w.lines.append("</object>")
    folder = Path(__file__).parent
    (folder / path).write_text(HEAD + "\n".join(w.lines) + "\n</topology>\n")


def caches(first, cores, per_cache, sibling_offset=None, without=()):
    """Cores first.. of one CPU each, or of two, the second `sibling_offset` higher."""
    threads = lambda core: [core] if sibling_offset is None else [core, core + sibling_offset]
    online = [[cpu for cpu in threads(core) if cpu not in without] for core in range(first, first + cores)]
    groups = [online[begin:begin + per_cache] for begin in range(0, cores, per_cache)]
    return [[core for core in group if core] for group in groups if any(group)]


# The operators' guide: 192 CPUs, numbered so that node 0 has 0-47 and 96-143.
machine("guide-host.xml", [
    [(0, caches(0, 48, 8, 96), ["gpu", "gpu", "nic:eth0", "nvme:nvme0n1"])],
    [(1, caches(48, 48, 8, 96), ["gpu", "gpu", "nvme:nvme1n1"])],
])
machine("laptop.xml", [[(0, caches(0, 4, 4, 4), ["igpu", "nic:wlp1s0", "nvme:nvme0n1"])]])
machine("one-gpu.xml", [[(0, caches(0, 8, 8), ["gpu", "nic:eth0", "nvme:nvme0n1"])]])
machine("gpus-on-one-socket.xml", [
    [(0, caches(0, 12, 6), ["gpu", "gpu", "gpu", "gpu", "nic:eth0"])],
    [(1, caches(12, 12, 6), ["nvme:nvme0n1"])],
])
OFFLINE = {2, 3, 7, 9, 10, 11, 15}
machine("offline-cores.xml", [[(0, caches(0, 8, 4, 8, OFFLINE), ["gpu", "nic:eth0", "nvme:nvme0n1"])]], offline=OFFLINE)
machine("memory-only-nodes.xml", [
    [(0, caches(0, 8, 8), ["gpu", "nic:eth0"])], [(1, caches(8, 8, 8), ["gpu", "nvme:nvme0n1"])],
], extra_nodes=[2, 3])
machine("four-nodes-a-socket.xml", [
    [(node, caches(4 * node, 4, 4), ["gpu", "nvme:nvme0n1"] if node == 2 else []) for node in range(4)],
    [(node, caches(4 * node, 4, 4), ["gpu", "nic:eth0"] if node == 5 else []) for node in range(4, 8)],
])
machine("gpu-nowhere.xml", [[(0, caches(0, 4, 4), [])], [(1, caches(4, 4, 4), [])]], unplaced=["gpu", "nic:eth0"])
machine("given-half.xml", [
    [(0, caches(0, 8, 4), ["gpu", "nic:eth0"])], [(1, caches(8, 8, 4), ["gpu"])],
], allowed=range(8))
