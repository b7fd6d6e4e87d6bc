"""Standard output for the commands: in any encoding, on a full disk, or with no reader left."""

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator

#: Replacements for characters that the encoding lacks; for others, Python's escape.
INSTEAD = {"→": "->", "×": "x", "…": "..."}

#: A shell's status of a program whose reader has gone: 128 and SIGPIPE's number.
LEFT = 141


def plain(error: UnicodeError) -> tuple[str, int]:
    """A codec error handler that writes replacements which the encoding has."""
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
    """Run a whole command, whatever standard output is.

    Raises
    ------
    SystemExit
        With the status `LEFT` if the reader has gone, and 2 if nothing more can be written.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="numba_linear.plain")
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # fail here and not while Python exits
    except BrokenPipeError:
        _drop()
        raise SystemExit(LEFT) from None
    except OSError as error:
        _drop()
        print(f"numba_linear: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _drop() -> None:
    """Discard what standard output still holds, which Python would write at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
