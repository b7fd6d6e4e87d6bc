"""Which build of the package this is: a digest of what is installed, however it is installed."""

import contextlib
import functools
import hashlib
import importlib
import pkgutil
from types import CodeType


def modules(path, prefix):
    """The specifications of a package's modules, as the import system finds them.

    An editor's broken link or a folder `old.py` is not a module.
    """
    for found in sorted(pkgutil.iter_modules(path, prefix), key=lambda found: found.name):
        spec = found.module_finder.find_spec(found.name)
        if spec is not None and spec.loader is not None:
            yield spec
            if found.ispkg:
                yield from modules(spec.submodule_search_locations, f"{found.name}.")


def content(spec):
    """The bytes of a module's source or, without one, of its code."""
    loader = spec.loader
    with contextlib.suppress(AttributeError, ImportError, OSError):
        file = loader.get_filename(spec.name)
        # the head of a .pyc is a magic number and its source's date or hash
        return loader.get_data(file)[16 if file.endswith(".pyc") else 0 :]
    with contextlib.suppress(AttributeError, ImportError, OSError):  # frozen into a program
        return repr(as_values(loader.get_code(spec.name))).encode()
    return b""


def as_values(code):
    """What code does, without addresses and in a fixed order."""
    if isinstance(code, CodeType):
        return code.co_code, code.co_names, [as_values(constant) for constant in code.co_consts]
    return sorted(map(repr, code)) if isinstance(code, frozenset) else code


@functools.cache
def build():
    """A digest of the package's modules, part of each type's key and so of Numba's cache keys.

    Numba itself notices only changes in the cached function's own file, not in what it calls.
    """
    package = importlib.import_module(__package__.partition(".")[0])
    digest = hashlib.sha256(package.__version__.encode())
    for spec in (package.__spec__, *modules(package.__path__, f"{package.__name__}.")):
        digest.update(f"\0{spec.name}\0".encode())
        digest.update(content(spec))
    return digest.hexdigest()[:16]


# Compute it now, while what is installed is what is being imported.
build()
