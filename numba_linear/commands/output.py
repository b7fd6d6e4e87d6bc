"""Standard output as the commands find it: in any encoding, full, or with no reader left."""

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator

#: What is written for a character that the encoding does not have; for others, Python's escape.
INSTEAD = {"→": "->", "×": "x", "…": "..."}

#: What a shell reports of a program that its reader left, 128 and SIGPIPE's number.
LEFT = 141


def plain(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs that writes what the encoding has instead."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    escaped = (
        INSTEAD.get(c) or c.encode("ascii", "backslashreplace").decode() for c in characters
    )
    return "".join(escaped), error.end


codecs.register_error("numba_linear.plain", plain)


@contextlib.contextmanager
def any_output() -> Iterator[None]:
    """Run a whole command whatever standard output is.

    Raises
    ------
    SystemExit
        With the status `LEFT` where the reader has gone, and 2 where nothing more can be written.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="numba_linear.plain")
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # what fails, fails here and not while Python ends
    except BrokenPipeError:
        _drop()
        raise SystemExit(LEFT) from None
    except OSError as error:
        _drop()
        print(f"numba_linear: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _drop() -> None:
    """Send nowhere what standard output still holds, which Python would write when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
