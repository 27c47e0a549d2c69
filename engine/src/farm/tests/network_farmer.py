#!/usr/bin/env python3
"""The network's own farmer as far as a farm's directory goes, written from the format alone (PROTOCOL 5.3, 5.4, 7) and from none of this
program's code: what one of the two writes, the other must read.

`make` makes a directory with sectors whose bytes are given; `open` does to a directory what a start with `size=` does. Both print what the
farm then has, as JSON. Needs nothing but Python.
"""

import argparse
import fcntl
import json
import os
import struct
import sys

BLOCK = 4096
RECORD_CHUNKS = 1 << 15
S_BUCKETS = 1 << 16
BITFIELD = S_BUCKETS // 8
PIECE = 1_048_672
METADATA_AT = 1 << 20
METADATA = 2 + 2 + 2 * S_BUCKETS + 8 + 32
ELEMENT = 8 + PIECE + 32
FIXED = (1 << 20) + (1 << 20) + 33 + 961_284
MAX_SECTORS = 65_534

# BLAKE3, as its paper has it.
IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
MASK = 0xFFFFFFFF
MIXES = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15), (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))


def compress(chaining, words, counter, length, flags):
    """Eight words from a block of sixteen."""
    v = [*chaining, *IV[:4], counter & MASK, counter >> 32, length, flags]
    for _ in range(7):
        for i, (a, b, c, d) in enumerate(MIXES):
            va = (v[a] + v[b] + words[2 * i]) & MASK
            vd = v[d] ^ va
            vd = (vd >> 16 | vd << 16) & MASK
            vc = (v[c] + vd) & MASK
            vb = v[b] ^ vc
            vb = (vb >> 12 | vb << 20) & MASK
            va = (va + vb + words[2 * i + 1]) & MASK
            vd ^= va
            vd = (vd >> 8 | vd << 24) & MASK
            vc = (vc + vd) & MASK
            vb ^= vc
            v[a], v[b], v[c], v[d] = va, (vb >> 7 | vb << 25) & MASK, vc, vd
        words = [words[i] for i in PERMUTATION]
    return tuple(v[i] ^ v[i + 8] for i in range(8))


def chunk_value(data, counter, root, known={}):
    """The chaining value of up to 1024 bytes. Chunks of zeros come again and again."""
    key = (data, counter, root)
    if key not in known:
        value = IV
        blocks = [data[i : i + 64] for i in range(0, len(data), 64)] or [b""]
        for i, block in enumerate(blocks):
            last = i + 1 == len(blocks)
            flags = (CHUNK_START if i == 0 else 0) | (CHUNK_END if last else 0) | (root if last else 0)
            value = compress(value, struct.unpack("<16I", block.ljust(64, b"\0")), counter, len(block), flags)
        known[key] = value
    return known[key]


def parent_value(left, right, root, known={}):
    """The chaining value of two."""
    key = (left, right, root)
    if key not in known:
        known[key] = compress(IV, (*left, *right), 0, 64, PARENT | root)
    return known[key]


def tree_value(data, counter, root):
    """The chaining value of any number of bytes: the left part is the largest power of two of chunks that leaves something."""
    chunks = -(-len(data) // 1024)
    if chunks <= 1:
        return chunk_value(data, counter, root)
    left = 1 << (chunks - 1).bit_length() - 1
    values = tree_value(data[: left * 1024], counter, 0), tree_value(data[left * 1024 :], counter + left, 0)
    return parent_value(*values, root)


def blake3(data):
    """32 bytes."""
    return struct.pack("<8I", *tree_value(bytes(data), 0, ROOT))


def sector_size(pieces):
    """Bytes of a sector: contents map and its hash, chunks, record metadata, hash."""
    return pieces * (BITFIELD + 32 * RECORD_CHUNKS + 128) + 64


def up(size):
    """The next multiple of a block."""
    return -(-size // BLOCK) * BLOCK


def uses(bitfield):
    """The s-buckets that a record uses: those of its bits; and if they are too few, the lowest others."""
    bits = int.from_bytes(bitfield, "little")
    free = RECORD_CHUNKS - bits.bit_count()
    assert free >= 0, "a contents map with too many bits"
    before = 0
    for s_bucket in range(S_BUCKETS):
        if bits >> s_bucket & 1:
            before += 1
            yield s_bucket
        elif s_bucket - before < free:
            yield s_bucket


def record_of(index, pieces, sizes, history_size):
    """The metadata of a sector."""
    body = struct.pack(f"<HH{S_BUCKETS}HQ", index, pieces, *sizes, history_size)
    return body + blake3(body)


def record_of_bytes(index, pieces, sector, history_size):
    """The metadata of a sector, from its contents map."""
    assert len(sector) == sector_size(pieces)
    sizes = [0] * S_BUCKETS
    for piece in range(pieces):
        for s_bucket in uses(sector[piece * BITFIELD : (piece + 1) * BITFIELD]):
            sizes[s_bucket] += 1
    assert sum(sizes) == pieces * RECORD_CHUNKS
    return record_of(index, pieces, sizes, history_size)


def dummy(index, pieces):
    """What stands for a sector that must be plotted again."""
    return record_of(index, pieces, [0] * S_BUCKETS, 1)


def is_record(data):
    """Whether it decodes."""
    return len(data) == METADATA and blake3(data[:-32]) == data[-32:]


class Farm:
    """A directory, locked."""

    def __init__(self, folder):
        self.folder = folder
        self.info_path = os.path.join(folder, "single_disk_farm.json")
        self.lock = open(self.info_path, "rb")
        fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.info = json.load(self.lock)["v0"]
        self.pieces = self.info["piecesInSector"]
        self.sector_size = sector_size(self.pieces)

    def file(self, name):
        """A file to read and write, made if there is none."""
        path = os.path.join(self.folder, name)
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0)

    def start(self, size, cache_percent):
        """What a start with this size does to the files."""
        if self.info["allocatedSpace"] != size:
            self.info["allocatedSpace"] = size
            write_info(self.info_path, self.info)
        space = (size - FIXED) // 100 * (100 - cache_percent)
        self.sectors = (space - BLOCK) // (self.sector_size + METADATA)
        assert 1 <= self.sectors <= MAX_SECTORS, self.sectors
        self.metadata, self.plot = self.file("metadata.bin"), self.file("plot.bin")
        resize(self.metadata, up(METADATA_AT + self.sectors * METADATA))
        version, count = struct.unpack("<BH", read(self.metadata, 0, 3))
        assert version == 0, version
        self.count = min(count, self.sectors)
        write(self.metadata, 0, struct.pack("<BH", 0, self.count))
        for index in range(self.count):
            if not is_record(self.record(index)):
                self.set_record(index, dummy(index, self.pieces))
        resize(self.plot, up(self.sectors * self.sector_size))
        rest = size - FIXED - self.sectors * (self.sector_size + METADATA) - BLOCK
        self.cached = rest // ELEMENT if cache_percent else 0
        if self.cached:
            self.cache = self.file("piece_cache.bin")
            resize(self.cache, up(self.cached * ELEMENT))

    def record(self, index):
        """The metadata of a sector."""
        return read(self.metadata, METADATA_AT + index * METADATA, METADATA)

    def set_record(self, index, record):
        """Writes the metadata of a sector."""
        write(self.metadata, METADATA_AT + index * METADATA, record)

    def put(self, index, sector, history_size):
        """Plots a sector: bytes, record, count."""
        write(self.plot, index * self.sector_size, sector)
        self.set_record(index, record_of_bytes(index, self.pieces, sector, history_size))
        if index >= self.count:
            for left_out in range(self.count, index):
                self.set_record(left_out, dummy(left_out, self.pieces))
            self.count = index + 1
            write(self.metadata, 0, struct.pack("<BH", 0, self.count))

    def fill_caches(self):
        """A piece into the first place of the piece cache, and one into the highest of the plot cache."""
        if self.cached:
            write(self.cache, 0, element(7))
        place = self.sectors * self.sector_size // ELEMENT - 1
        if place * ELEMENT >= self.count * self.sector_size:
            write(self.plot, place * ELEMENT, element(9))

    def told(self):
        """What there is, by the records alone."""
        plotted = []
        for index in range(self.count):
            record = self.record(index)
            sizes = struct.unpack_from(f"<{S_BUCKETS}H", record, 4)
            assert struct.unpack_from("<H", record) == (index,)
            assert struct.unpack_from("<H", record, 2) == (self.pieces,)
            if sum(sizes):
                assert sum(sizes) == self.pieces * RECORD_CHUNKS
                plotted.append([index, struct.unpack_from("<Q", record, 4 + 2 * S_BUCKETS)[0]])
        return {"sectors": self.sectors, "count": self.count, "plotted": plotted}


def element(index):
    """A piece of a cache."""
    body = struct.pack("<Q", index) + bytes([index]) * PIECE
    return body + blake3(body)


def read(file, offset, size):
    """Bytes of a file."""
    return os.pread(file.fileno(), size, offset)


def write(file, offset, data):
    """Writes all of it."""
    while data:
        done = os.pwrite(file.fileno(), data, offset)
        data, offset = data[done:], offset + done


def resize(file, size):
    """Reserves the space, and cuts what is too much."""
    if os.fstat(file.fileno()).st_size < size:
        os.posix_fallocate(file.fileno(), 0, size)
    os.truncate(file.fileno(), size)


def write_info(path, info):
    """In place, as it is done there: the lock stays."""
    with open(path, "r+", encoding="ascii") as file:
        text = json.dumps({"v0": info}, separators=(",", ":"))
        file.truncate(0)
        file.write(text)


def make(options):
    """A new directory."""
    os.makedirs(options.folder)
    with open(os.path.join(options.folder, "identity.bin"), "wb") as file:
        file.write(b"\x80" + bytes.fromhex(options.entropy))
    info = {
        "id": options.id,
        "genesisHash": options.genesis,
        "publicKey": options.public_key,
        "piecesInSector": options.pieces,
        "allocatedSpace": options.size,
    }
    path = os.path.join(options.folder, "single_disk_farm.json")
    open(path, "w", encoding="ascii").close()
    write_info(path, info)


def main():
    """Makes or opens, writes what is asked for, and tells."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["make", "open", "hash"])
    parser.add_argument("folder")
    parser.add_argument("--size", type=int)
    parser.add_argument("--cache", type=int, default=0, help="percent of the space for the piece cache")
    parser.add_argument("--pieces", type=int, default=1)
    parser.add_argument("--sector", nargs=3, action="append", default=[], metavar=("INDEX", "HISTORY", "FILE"))
    parser.add_argument("--fill-caches", action="store_true")
    for name in ["--id", "--genesis", "--public-key", "--entropy"]:
        parser.add_argument(name)
    options = parser.parse_args()
    if options.command == "hash":
        with open(options.folder, "rb") as file:
            print(blake3(file.read()).hex())
        return
    if options.command == "make":
        make(options)
    farm = Farm(options.folder)
    farm.start(options.size, options.cache)
    for index, history_size, path in options.sector:
        with open(path, "rb") as file:
            farm.put(int(index), file.read(), int(history_size))
    if options.fill_caches:
        farm.fill_caches()
    json.dump(farm.told(), sys.stdout)


if __name__ == "__main__":
    main()
