"""Numba's cache, made safe against damaged files."""

import contextlib
import hashlib
import pickle
from pathlib import Path

from numba.core.caching import FunctionCache, IndexDataCacheFile

from numba_linear.jit.interrupts import reading


def whole(data):
    """Whether the bytes end in the digest of the others."""
    return hashlib.sha256(data[:-DIGEST]).digest() == data[-DIGEST:]


DIGEST = hashlib.sha256().digest_size


class Files(IndexDataCacheFile):
    """Numba's cache files, with a digest at the end. Torn files count as missing, so an error
    while reading a whole one is not the file's fault."""

    def _dump(self, obj):
        data = super()._dump(obj)
        return data + hashlib.sha256(data).digest()

    def _load_index(self):
        with contextlib.suppress(FileNotFoundError), open(self._index_path, "rb") as file:
            pickle.load(file)  # Numba's version, which precedes what `_dump` returned
            if not whole(file.read()):
                return {}
        return super()._load_index()

    def _load_data(self, name):
        path = Path(self._data_path(name))
        if not whole(path.read_bytes()):
            raise FileNotFoundError(f"{path} is torn")
        return super()._load_data(name)


class Cache(FunctionCache):
    """Numba's cache, of which no file can make a call fail: what cannot be read is compiled."""

    def __init__(self, function):
        super().__init__(function)
        self._cache_file.__class__ = Files

    def load_overload(self, sig, target_context):
        try:
            with reading(self._name):
                found = super().load_overload(sig, target_context)
        except (MemoryError, RecursionError):
            raise
        except Exception:  # a file of another build, or something else in a file's place
            with contextlib.suppress(OSError):
                self.flush()
            return None
        # Processes that save code for different types at once may choose the same file.
        return found if found is not None and found.signature.args == sig else None

    def save_overload(self, sig, data):
        with contextlib.suppress(OSError):  # the disk is full, or permission was withdrawn
            super().save_overload(sig, data)
