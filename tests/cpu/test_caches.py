"""What is read from the machine: each system's call is replaced by one that answers as such a
machine would."""

import ctypes
import os
import struct
import sys

import pytest

from numba_linear.commands import info
from numba_linear.cpu import caches

KIB, MIB = 1 << 10, 1 << 20


def sizes():
    return {level: size.size for level, size in caches.sizes_of(caches.read_caches()).items()}


# --- Linux: a folder of files as the kernel writes them

FILES = ("level", "type", "size", "shared_cpu_list")


def linux(monkeypatch, tmp_path, allowed, cpus):
    """`cpus`: for each its siblings, and its caches as level, type, size and sharers."""
    for cpu, (siblings, files) in cpus.items():
        (tmp_path / f"cpu{cpu}/topology").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}/topology/thread_siblings_list").write_text(siblings + "\n")
        for i, words in enumerate(files):
            folder = tmp_path / f"cpu{cpu}/cache/index{i}"
            folder.mkdir(parents=True)
            for name, word in zip(
                ("level", "type", "size", "shared_cpu_list"), words, strict=True
            ):
                (folder / name).write_text(f"{word}\n")
    monkeypatch.setattr(caches, "CPUS", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(allowed), raising=False)


def private(cpus, size_1="32K", size_2="1024K", last=("32768K", "0-3")):
    """The caches of a core that has its own L1 and L2."""
    files = [(1, "Data", size_1, cpus), (1, "Instruction", "64K", cpus)]
    return [*files, (2, "Unified", size_2, cpus), (3, "Unified", *last)]


def test_linux_with_two_threads_to_a_core(monkeypatch, tmp_path):
    cpus = {cpu: (s, private(s)) for cpu, s in {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}.items()}
    linux(monkeypatch, tmp_path, range(4), cpus)
    assert sizes() == {1: 32 * KIB, 2: MIB, 3: 32 * MIB}
    assert caches.sizes_of(caches.read_caches())[2].source == f"{tmp_path}/cpu0/cache/index2"


HYBRID = {cpu: ("0-1", private("0-1", "48K", "2048K", ("30720K", "0-5"))) for cpu in (0, 1)} | {
    cpu: (str(cpu), [(1, "Data", "32K", cpu), (2, "Unified", "4096K", "2-5")])
    for cpu in range(2, 6)
}


@pytest.mark.parametrize(
    ("allowed", "want"),
    [
        (range(6), {1: 32 * KIB, 2: MIB, 3: 30 * MIB}),  # a quarter of 4 MiB is less than 2
        ((0, 1), {1: 48 * KIB, 2: 2 * MIB, 3: 30 * MIB}),
        ((4, 5), {1: 32 * KIB, 2: MIB, 3: 4 * MIB}),  # these have no L3
    ],
)
def test_linux_with_unlike_cores(monkeypatch, tmp_path, allowed, want):
    linux(monkeypatch, tmp_path, allowed, HYBRID)
    assert sizes() == want


def test_linux_without_such_files(monkeypatch, tmp_path):
    linux(monkeypatch, tmp_path, (0,), {})
    assert sizes() == caches.COMMON
    assert "assumed" in str(caches.sizes_of(caches.read_caches())[1])


@pytest.mark.parametrize(
    ("files", "want"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_quota_of_a_container(monkeypatch, tmp_path, files, want):
    (tmp_path / "cpu").mkdir()
    for name, words in files.items():
        (tmp_path / name).write_text(words + "\n")
    monkeypatch.setattr(caches, "CGROUP", str(tmp_path))
    assert caches.quota() == want


def test_info_says_when_the_quota_is_less_than_the_threads(monkeypatch):
    monkeypatch.setattr(info, "quota", lambda: 0.5)
    assert info.threads()["quota"].endswith("set NUMBA_NUM_THREADS=1")
    monkeypatch.setattr(info, "quota", lambda: None)
    assert "quota" not in info.threads()


# --- macOS: sysctlbyname, which writes to a given address

APPLE_M1 = {
    "hw.nperflevels": 2,
    "hw.perflevel0.l1dcachesize": 128 * KIB,
    "hw.perflevel0.l2cachesize": 12 * MIB,
    "hw.perflevel0.cpusperl2": 4,
    "hw.perflevel1.l1dcachesize": 64 * KIB,
    "hw.perflevel1.l2cachesize": 4 * MIB,
    "hw.perflevel1.cpusperl2": 4,
    "hw.l2cachesize": 4 * MIB,
}
INTEL_MAC = {"hw.l1dcachesize": 32 * KIB, "hw.l2cachesize": 256 * KIB, "hw.l3cachesize": 9 * MIB}
NARROW = {"hw.nperflevels", "hw.perflevel0.cpusperl2", "hw.perflevel1.cpusperl2"}


def macos(monkeypatch, values):
    @ctypes.CFUNCTYPE(
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_size_t),
        ctypes.c_void_p,
        ctypes.c_size_t,
    )
    def sysctlbyname(name, value, size, new, new_size):
        name = name.decode()
        if name not in values or new or new_size:
            return -1
        number = struct.pack("<I" if name in NARROW else "<Q", values[name])
        assert size[0] >= len(number)
        ctypes.memmove(value, number, len(number))
        size[0] = len(number)
        return 0

    library = type("Library", (), {"sysctlbyname": sysctlbyname})
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(sys, "platform", "darwin")


@pytest.mark.parametrize(
    ("values", "want"),
    [
        # the smallest core's, a quarter of what four share; the largest cache instead of L3
        (APPLE_M1, {1: 64 * KIB, 2: MIB, 3: 12 * MIB}),
        (INTEL_MAC, {1: 32 * KIB, 2: 256 * KIB, 3: 9 * MIB}),
        ({}, caches.COMMON),
    ],
    ids=["Apple M1", "Intel", "nothing"],
)
def test_macos(monkeypatch, values, want):
    macos(monkeypatch, values)
    assert sizes() == want


def test_macos_says_which_name(monkeypatch):
    macos(monkeypatch, APPLE_M1)
    found = caches.sizes_of(caches.read_caches())
    assert found[2].source == "a part of 4096 KiB for 4 cores, sysctl hw.perflevel1.l2cachesize"
    assert found[3].source == "level 2, sysctl hw.perflevel0.l2cachesize"


# --- Windows: records of different lengths, one after the other


def core_record(mask, groups=1):
    return struct.pack("<IIBB20xHQH6x", caches.RELATION_CORE, 48, 1, 0, groups, mask, 0)


def cache_record(level, size, kind, mask, groups=1):
    fields = (caches.RELATION_CACHE, 56, level, 8, 64, size, kind, groups, mask, 0)
    return struct.pack("<IIBBHII18xHQH6x", *fields)


def windows(monkeypatch, records):
    data = b"".join(records)

    @ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint32)
    )
    def information(relation, buffer, length):
        assert relation == caches.RELATION_ALL
        if not buffer or length[0] < len(data):
            length[0] = len(data)
            return 0
        ctypes.memmove(buffer, data, len(data))
        return 1

    library = type("Library", (), {"GetLogicalProcessorInformationEx": information})
    monkeypatch.setattr(ctypes, "WinDLL", lambda name, **_: library, raising=False)
    monkeypatch.setattr(sys, "platform", "win32")


INSTRUCTION = 1
NUMA_RECORD = struct.pack("<II40x", 1, 48)
WINDOWS_HYBRID = [  # a core with two threads, and four that share an L2
    core_record(0b11),
    *(core_record(1 << cpu) for cpu in range(2, 6)),
    NUMA_RECORD,
    cache_record(1, 48 * KIB, caches.DATA, 0b11),
    cache_record(1, 16 * KIB, INSTRUCTION, 0b11),
    cache_record(2, 2 * MIB, caches.UNIFIED, 0b11, groups=0),  # as Windows 10 leaves it
    *(cache_record(1, 32 * KIB, caches.DATA, 1 << cpu) for cpu in range(2, 6)),
    cache_record(2, 4 * MIB, caches.UNIFIED, 0b111100),
    cache_record(3, 30 * MIB, caches.UNIFIED, 0b111111),
]


@pytest.mark.parametrize(
    ("records", "want"),
    [(WINDOWS_HYBRID, {1: 32 * KIB, 2: MIB, 3: 30 * MIB}), ([], caches.COMMON)],
    ids=["hybrid", "nothing"],
)
def test_windows(monkeypatch, records, want):
    windows(monkeypatch, records)
    assert sizes() == want


def test_another_system(monkeypatch):
    monkeypatch.setattr(sys, "platform", "freebsd15")
    assert sizes() == caches.COMMON
