"""The sizes of the data caches, as the operating system reports them, and the source of each.

Blocks must fit on every core that this process may run on, so of unlike cores the smallest cache
counts. Cores that share an L1 or L2 have a part of it each, since each thread has its own block
there. Hardware threads of one core share its part.

- Linux: the files of `/sys`, for the processors of the process's affinity. A container shows its
  host's; the quota of a control group is in `quota`.
- macOS: `sysctlbyname`, for each kind of core.
- Windows: `GetLogicalProcessorInformationEx`.

If the system reports nothing, common sizes are assumed.
"""

import ctypes
import functools
import os
import struct
import sys
from typing import NamedTuple

#: Bytes of a common processor's caches, by level.
COMMON = {1: 32 << 10, 2: 1 << 20, 3: 16 << 20}

CPUS = "/sys/devices/system/cpu"
CGROUP = "/sys/fs/cgroup"


class Cache(NamedTuple):
    """A data cache that some core uses."""

    level: int
    size: int  # bytes of all of it
    cores: int  # that share it
    source: str


class Size(NamedTuple):
    """Bytes that blocks may use: one core's part of L1 or L2, all of L3."""

    size: int
    source: str

    def __str__(self):
        return f"{self.size >> 10} KiB, {self.source}"


@functools.cache
def cache_sizes():
    """The `Size` of each of the levels 1 to 3."""
    return sizes_of(read_caches())


def sizes_of(caches):
    """The smallest cache of each level; for a machine without L3 its largest cache."""
    sizes = {}
    for level, common in COMMON.items():
        found = [
            Size(c.size if level == 3 else c.size // c.cores, shared(c) if level < 3 else c.source)
            for c in caches
            if c.level == level
        ]
        if level == 3 and not found and caches:
            largest = max(caches, key=lambda c: c.size)
            found = [Size(largest.size, f"level {largest.level}, {largest.source}")]
        sizes[level] = min(found, default=Size(common, "assumed, as the system does not tell"))
    return sizes


def shared(cache):
    if cache.cores == 1:
        return cache.source
    return f"a part of {cache.size >> 10} KiB for {cache.cores} cores, {cache.source}"


def read_caches():
    """The caches of the cores that this process may run on; none if the system reports none."""
    reader = {"linux": linux_caches, "darwin": macos_caches, "win32": windows_caches}
    try:
        caches = reader.get(sys.platform, list)()
    except (AttributeError, OSError, ValueError, struct.error):
        return []
    return [cache for cache in caches if cache.size > 0]


# --- Linux


def read(*path):
    with open("/".join(path)) as file:
        return file.read().strip()


def numbers(text):
    """The numbers of a list as Linux writes it: 0-3,8."""
    found = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def linux_caches():
    left, caches = set(os.sched_getaffinity(0)), []
    while left:
        cpu = min(left)
        left.discard(cpu)
        folder = f"{CPUS}/cpu{cpu}"
        try:
            siblings = len(numbers(read(folder, "topology/thread_siblings_list")))
        except (OSError, ValueError):
            siblings = 1
        for index in sorted(os.listdir(f"{folder}/cache")):
            here = f"{folder}/cache/{index}"
            try:
                kind, level = read(here, "type"), int(read(here, "level"))
                size, sharers = read(here, "size"), numbers(read(here, "shared_cpu_list"))
            except (OSError, ValueError):
                continue
            if kind == "Instruction" or not size.endswith("K"):
                continue
            cores = max(1, len(sharers) // siblings)
            caches.append(Cache(level, int(size[:-1]) << 10, cores, here))
            if level <= 2:  # the sharers are cores like this one
                left -= sharers
    return caches


def quota():
    """The processors whose time a container's control group allows; None for no limit."""
    try:
        if os.path.exists(f"{CGROUP}/cpu.max"):
            allowed, period = read(CGROUP, "cpu.max").split()
        else:
            allowed = read(CGROUP, "cpu/cpu.cfs_quota_us")
            period = read(CGROUP, "cpu/cpu.cfs_period_us")
        return int(allowed) / int(period) if int(allowed) > 0 else None
    except (OSError, ValueError):  # "max" for no limit
        return None


# --- macOS


def sysctl(name):
    """The integer of that name, 0 where there is none."""
    value, size = ctypes.c_uint64(), ctypes.c_size_t(8)
    call = ctypes.CDLL(None).sysctlbyname
    call.argtypes = [
        ctypes.c_char_p,
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_size_t),
        ctypes.c_void_p,
        ctypes.c_size_t,
    ]
    failed = call(name.encode(), ctypes.byref(value), ctypes.byref(size), None, 0)
    return 0 if failed else value.value


def macos_caches():
    kinds = [f"hw.perflevel{i}" for i in range(sysctl("hw.nperflevels"))]
    caches = []
    for kind in kinds or ["hw"]:  # an Intel has one kind of core, with its own L1 and L2
        for level, name in {1: "l1dcachesize", 2: "l2cachesize", 3: "l3cachesize"}.items():
            cores = sysctl(f"{kind}.cpusperl{level}") if kinds and level > 1 else 1
            source = f"sysctl {kind}.{name}"
            caches.append(Cache(level, sysctl(f"{kind}.{name}"), max(1, cores), source))
    return caches


# --- Windows

#: Kinds of records of GetLogicalProcessorInformationEx, and offsets of the number of groups and of
#: their masks. A record begins with its kind and its size.
RELATION_CORE, RELATION_CACHE, RELATION_ALL = 0, 2, 0xFFFF
CORE_GROUPS, CORE_MASKS, CACHE_GROUPS, CACHE_MASKS = 30, 32, 38, 40
UNIFIED, DATA = 0, 2
SOURCE = "GetLogicalProcessorInformationEx"


def windows_caches():
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    length = ctypes.c_uint32()
    kernel.GetLogicalProcessorInformationEx(RELATION_ALL, None, ctypes.byref(length))
    buffer = ctypes.create_string_buffer(length.value)
    if not kernel.GetLogicalProcessorInformationEx(RELATION_ALL, buffer, ctypes.byref(length)):
        raise OSError(SOURCE)

    def processors(at, groups_at, masks_at):
        """The processors of a record, as group and bit."""
        (groups,) = struct.unpack_from("<H", buffer, at + groups_at)
        found = set()
        for i in range(max(1, groups)):  # 0 means one, before Windows 11
            mask, group = struct.unpack_from("<QH", buffer, at + masks_at + 16 * i)
            found.update((group, bit) for bit in range(64) if mask >> bit & 1)
        return found

    at, cores, found = 0, [], []
    while at < length.value:
        relation, size = struct.unpack_from("<II", buffer, at)
        if relation == RELATION_CORE:
            cores.append(processors(at, CORE_GROUPS, CORE_MASKS))
        elif relation == RELATION_CACHE:
            level, _, _, cache_bytes, kind = struct.unpack_from("<BBHII", buffer, at + 8)
            if kind in (UNIFIED, DATA):
                sharers = processors(at, CACHE_GROUPS, CACHE_MASKS)
                found.append((level, cache_bytes, sharers))
        at += max(8, size)
    return [
        Cache(level, size, max(1, sum(not core.isdisjoint(sharers) for core in cores)), SOURCE)
        for level, size, sharers in found
    ]
