"""The calls and the peers on the GPU, for ``--device cuda``."""

import timeit
from collections.abc import Callable
from time import perf_counter
from typing import Any

from numba_linear.commands import UserError, peers
from numba_linear.commands.timing import Contestant

#: `forward`, `grad_input`, `grad_weight`, `grad_bias` and `backward`.
Calls = tuple[Callable[..., Any], ...]

#: Stands in for the number of threads if a GPU is measured.
GPU = 0

#: Calls between two waits for the GPU. A wait takes longer than a small call.
CALLS = 16


def check() -> None:
    """Raise a UserError if no GPU can be used."""
    from numba_linear.cuda.layer import CudaUnavailableError, engine

    try:
        engine()
    except CudaUnavailableError as error:
        raise UserError(str(error)) from None


def calls() -> Calls:
    """The public calls on the GPU."""
    from numba_linear.cuda import backward, forward, grad_bias, grad_input, grad_weight

    return forward, grad_input, grad_weight, grad_bias, backward


def name() -> str:
    """The current device's name."""
    from numba import cuda

    device = cuda.get_current_device()
    name = getattr(device, "name", "Numba's simulator")
    return name.decode() if isinstance(name, bytes) else name


def on_device(*arrays: Any) -> list[Any]:
    from numba import cuda

    return [cuda.to_device(a) for a in arrays]


def on_host(results: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    return {
        operation: tuple(a.copy_to_host() for a in arrays) for operation, arrays in results.items()
    }


def facts() -> dict[str, str]:
    """What ratios on the GPU depend on."""
    from numba import cuda

    from numba_linear.commands import info

    packages = info.versions("numba-cuda", "cupy", "torch")
    major, minor = cuda.get_current_device().compute_capability
    return {
        "GPU": f"{name()}, compute capability {major}.{minor}",
        **{package: packages[package] for package in ("numba-cuda", "cupy", "torch")},
        "float32 of the peers": "full, without TF32",
    }


def vendors(operation: str, shape: peers.Shape, dtype: str, threads: int) -> list[Contestant]:
    """The package, and cuBLAS through PyTorch and CuPy if they are installed."""
    from numba import cuda

    import numba_linear.cuda

    arrays = peers.operands(shape, dtype)
    on_gpu = {name: cuda.to_device(a) for name, a in arrays.items() if name != "K"}
    names = vars(numba_linear.cuda) | on_gpu
    found = [_timed("numba_linear", peers.OURS[operation], names, cuda.synchronize)]
    if peers.installed("torch"):
        import torch

        if torch.cuda.is_available():
            torch.backends.cuda.matmul.allow_tf32 = False
            names = {name: torch.as_tensor(a, device="cuda") for name, a in on_gpu.items()}
            names |= {"linear": torch.nn.functional.linear, "K": arrays["K"]}
            found.append(_timed("torch", peers.TORCH[operation], names, torch.cuda.synchronize))
    if peers.installed("cupy"):
        import cupy

        # CuPy's own default; CUPY_TF32=1 in the environment would turn TF32 on.
        names = {name: cupy.asarray(a) for name, a in on_gpu.items()} | {"K": arrays["K"]}
        found.append(_timed("cupy", peers.NUMPY[operation], names, cuda.synchronize))
    if len(found) == 1:
        raise UserError("nothing to compare with: neither PyTorch for CUDA nor CuPy is installed")
    return found


def _timed(
    name: str, statement: str, names: dict[str, Any], wait: Callable[[], None]
) -> Contestant:
    """A contestant of one line of Python, timed until the GPU has finished its calls."""
    timer = timeit.Timer(statement, globals=dict(names))

    def run(count: int) -> float:
        wait()
        start = perf_counter()
        timer.timeit(CALLS * count)
        wait()
        return (perf_counter() - start) / CALLS

    return Contestant(name, run)
