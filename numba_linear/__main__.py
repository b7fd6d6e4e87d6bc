"""``python -m numba_linear``: prove the package on this machine, or run one part of the proof."""

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from numba_linear import __version__
from numba_linear.commands import UserError
from numba_linear.commands.groups import GROUPS
from numba_linear.commands.output import any_output


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The command line without the program's name; `sys.argv` by default.

    Returns
    -------
    int
        The exit code: 0, 1 if a check failed, or 2 if the input was wrong.
    """
    options = _parser().parse_args(argv)
    try:
        return 0 if options.run(options) else 1
    except UserError as error:
        print(f"numba_linear: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m numba_linear",
        description="Prove numba_linear on this machine: verify, train and a short bench. "
        "The exit code is not 0 if a check fails.",
    )
    parser.add_argument("--version", action="version", version=f"numba_linear {__version__}")
    parser.set_defaults(run=_everything)
    commands = parser.add_subparsers(title="one part alone", metavar="COMMAND")

    verify = commands.add_parser("verify", help="every operation against the equations")
    verify.description = (
        "Compare every operation with the equations bit for bit, the results' SHA-256 with the "
        "recorded one, and the gradients with finite differences."
    )
    _add_device(verify)
    verify.set_defaults(run=_verify)

    train = commands.add_parser("train", help="a classifier trained inside one @njit function")
    train.description = (
        "Train a two-layer classifier twice inside one @njit function and compare the weights' "
        "bits; on the bundled digits also check its accuracy."
    )
    train.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="FILE",
        help="your own data: .npz with x (samples, features) and y (samples,), or .csv with the "
        "label in the last column; labels are integers from 0 (default: the bundled digits)",
    )
    train.add_argument(
        "--dask",
        action="store_true",
        help="on the workers of a Dask cluster on this machine, and in memory: the same bits "
        "(needs the extra dask)",
    )
    train.add_argument(
        "--micro-batch",
        type=int,
        metavar="N",
        help="the second run takes N samples at a time and accumulates their gradients: the same "
        "bits for every N",
    )
    train.add_argument(
        "--epochs",
        type=int,
        metavar="N",
        help="times that each sample is seen (default: 20; with fewer no accuracy is demanded)",
    )
    train.add_argument(
        "--save",
        type=Path,
        metavar="FILE",
        help="write the network to an .npz: w1, b1, w2, b2; the features' mean and deviation, by "
        "which they are standardised and then cut off at -3 and 3; the labels of the outputs. "
        "numpy.load reads it, docs/train.md uses it",
    )
    train.set_defaults(run=_train)

    bench = commands.add_parser("bench", help="side by side with NumPy and PyTorch")
    bench.description = (
        "Time every operation side by side with NumPy and, where installed, PyTorch. "
        "A ratio is the best peer's time / ours: above 1 is faster than the best peer. "
        "One marked ? is not steady: its rounds lie apart, or on several threads other programs "
        "kept the cores busy. It counts in no mean."
    )
    bench.add_argument(
        "--group",
        action="append",
        metavar="NAME",
        help=f"only this group of shapes, one of {', '.join(GROUPS)}; may be repeated "
        "(default: all)",
    )
    bench.add_argument(
        "--threads",
        type=_numbers,
        metavar="N[,N]",
        help="numbers of threads, the same for all (default: 1 and all)",
    )
    bench.add_argument("--dtype", choices=("float32", "float64"), help="only this dtype")
    bench.add_argument(
        "--seconds",
        type=float,
        default=0.4,
        metavar="S",
        help="time for each cell of the table (default: %(default)s)",
    )
    bench.add_argument("--json", type=Path, metavar="FILE", help="write the table and raw times")
    bench.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios (matplotlib)")
    _add_device(bench)
    bench.set_defaults(run=_bench)

    info = commands.add_parser("info", help="versions, threads, vector width and block sizes")
    info.set_defaults(run=_info)
    return parser


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="cuda: the variants for an NVIDIA GPU (default: %(default)s)",
    )


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not N or N,N") from None


# Each command is imported when it runs, so that none needs the others' packages.


def _verify(options: argparse.Namespace) -> bool:
    from numba_linear.commands import verify

    return verify.run(options.device)


def _train(options: argparse.Namespace) -> bool:
    from numba_linear.commands import UserError, cluster, train

    if options.dask:
        for name in ("micro_batch", "epochs", "save"):
            if getattr(options, name) is not None:
                option = f"--{name.replace('_', '-')}"
                raise UserError(f"{option} is for this process alone, not for --dask")
        return cluster.run(options.file)
    epochs = train.EPOCHS if options.epochs is None else options.epochs
    return train.run(options.file, options.micro_batch, epochs, options.save)


def _bench(options: argparse.Namespace) -> bool:
    from numba_linear.commands import bench

    dtypes = (options.dtype,) if options.dtype else bench.DTYPES
    bench.run(
        options.group,
        options.threads,
        dtypes,
        options.seconds,
        options.json,
        options.plot,
        options.device,
    )
    return True


def _info(options: argparse.Namespace) -> bool:
    from numba_linear.commands import info

    info.run()
    return True


def _everything(options: argparse.Namespace) -> bool:
    from numba_linear.commands import bench, train, verify

    start = time.perf_counter()
    verified = verify.run()
    print()
    trained = train.run()
    print()
    bench.run_quick()
    seconds = time.perf_counter() - start
    print(
        f"\nnumba_linear: verify {'passed' if verified else 'FAILED'}, "
        f"train {'passed' if trained else 'FAILED'}, bench done, {seconds:.0f} s"
    )
    return verified and trained


def _stop(signal_number: int, frame: object) -> None:
    """End the process at once.

    A KeyboardInterrupt is not enough: raised while LLVM calls back into Python, it is printed and
    ignored, and the command goes on.
    """
    # The interrupted code may be writing to the same buffer, or the reader may have gone.
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os.write(2, b"\nstopped\n")
    os._exit(130)


if __name__ == "__main__":
    # If Ctrl-C is ignored, as in a shell's background, it stays so. A thread, as of a caller of
    # runpy, cannot set a handler.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGINT, _stop)
    with any_output():
        raise SystemExit(main())
