"""Kernels as machine code: compiled once for an architecture, and kept on disk.

Numba compiles a kernel to NVVM's intermediate code, and NVIDIA's nvJitLink compiles that to
machine code: 2 to 3 s for a large kernel. Numba's own cache would keep neither. A file is named by
all that its contents depend on, and begins with a digest of them: a file that is damaged or of
another origin is compiled anew.
"""

import functools
import hashlib
import importlib.metadata
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from numba.core import config

import numba_linear

#: Major and minor, and a letter for code that runs on no other architecture.
Capability = tuple[int, int] | tuple[int, int, str]


class Kernel:
    """A kernel, compiled for a GPU when it is first launched there.

    Attributes
    ----------
    name : str
        Unique among all kernels.
    function : function
    threads : int
        Threads of a block.
    blocks : int
        Blocks that must fit a multiprocessor at once.
    types : tuple
        Numba's types of its arguments.
    shared_bytes : int
        Shared memory that a launch must request.
    """

    def __init__(
        self,
        name: str,
        function: Any,
        threads: int,
        blocks: int,
        types: Any,
        shared_bytes: int = 0,
    ) -> None:
        self.name, self.function, self.types = name, function, types
        self.threads, self.blocks, self.shared_bytes = threads, blocks, shared_bytes

    def compile(self, capability: Capability) -> bytes:
        """The machine code, compiled anew."""
        return bytes(linker(self.intermediate(capability), capability).link("cubin").code)

    def intermediate(self, capability: Capability) -> bytes:
        """NVVM's intermediate code.

        From PTX nvJitLink makes code that can still be linked, and spills 80 bytes of the large
        tiles' registers for that. From this code it spills none.
        """
        from numba import cuda

        code, _ = cuda.compile(
            self.function,
            self.types,
            device=False,
            abi="numba",  # flattens tuples, so that every parameter is a number
            cc=capability,
            launch_bounds=(self.threads, self.blocks),
            output="ltoir",
        )
        return code

    def machine_code(self, capability: Capability) -> bytes:
        """The machine code, from the disk if it is there."""
        key = "\n".join((self.name, architecture(capability), *foundations()))
        name = f"numba_linear-{hashlib.sha256(key.encode()).hexdigest()[:32]}.cubin"
        for folder in folders():
            code = read(folder / name, key)
            if code is not None:
                return code
        code = self.compile(capability)
        for folder in folders():
            if write(folder / name, key, code):
                break
        return code


def architecture(capability: Capability) -> str:
    return "sm_" + "".join(map(str, capability))


def linker(intermediate: bytes, capability: Capability, **options: Any) -> Any:
    from cuda.core import Linker, LinkerOptions, ObjectCode

    arch = architecture(capability)
    chosen = LinkerOptions(arch=arch, link_time_optimization=True, **options)
    return Linker(ObjectCode.from_ltoir(intermediate), options=chosen)


def entry_of(code: bytes) -> str:
    """The name that Numba made up for the one kernel in machine code: its section's."""
    (name,) = set(re.findall(rb"\0\.text\.(\w+)\0", code))
    return name.decode()


@functools.cache
def foundations() -> tuple[str, ...]:
    """What machine code depends on besides the kernel: the package's files, compiler, toolkit."""
    from cuda.bindings import nvjitlink, nvvm

    here = Path(__file__).parent
    sources = [*sorted(here.glob("*.py")), *(here.parent / "cpu" / f"{x}.py" for x in SHARED)]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources))
    packages = ("numba", "numba-cuda", "llvmlite")
    versions = (f"{name} {importlib.metadata.version(name)}" for name in packages)
    package = f"numba_linear {numba_linear.__version__}"
    toolkit = (f"nvvm {nvvm.version()}", f"nvjitlink {nvjitlink.version()}")
    return (digest.hexdigest(), package, *versions, *toolkit)


#: Files of the CPU engine that kernels use too.
SHARED = ("matrix", "rule")


def folders() -> list[Path]:
    """Where machine code may be: like Numba's cache, beside the source or in the user's folder."""
    if config.CACHE_DIR:
        return [Path(config.CACHE_DIR)]
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return [Path(__file__).parent / "__pycache__", Path(cache) / "numba_linear"]


def digest(key: str, code: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\n" + code).digest()


def read(path: Path, key: str) -> bytes | None:
    """The code in a file; None if there is no file, or not what was written."""
    try:
        contents = path.read_bytes()
    except OSError:
        return None
    found, code = contents[:32], contents[32:]
    return code if found == digest(key, code) else None


def write(path: Path, key: str, code: bytes) -> bool:
    """Whether the file could be written. It is whole or missing, also if others write it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(handle, "wb") as file:
            file.write(digest(key, code) + code)
        os.replace(part, path)
    except OSError:
        return False
    return True
