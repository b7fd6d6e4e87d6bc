"""Nothing interrupts compiling or reading Numba's cache: signals wait, other errors come first.

Numba and LLVM change their tables in many steps, and some of their code swallows exceptions: an
error on the way to a cache file, for instance, counts as a missing file. A signal's handler may
raise anything anywhere. So signals wait until the innermost function is compiled, and a stack
that is too short for compiling is refused at once.
"""

import contextlib
import signal
import sys
import threading

#: Stack frames reserved for compiling, which took 262.
DEPTH = 400


class Later:
    """A signal's handler that keeps the signal for later."""

    def __init__(self, handler):
        self.handler, self.came = handler, None

    def __call__(self, *arguments):
        self.came = arguments

    def deliver(self):
        came, self.came = self.came, None
        if came:
            self.handler(*came)


def set_handlers(handlers):
    """Set all handlers, even if a former one raises meanwhile; then raise its exception."""
    raised = None
    for number, handler in handlers:
        try:
            signal.signal(number, handler)
        except BaseException as error:
            raised = error
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)
    if raised is not None:
        raise raised


def handlers_in_python():
    """The signals that Python functions handle, and these functions; none outside the one thread
    that may set handlers."""
    if threading.current_thread() is not threading.main_thread():
        return []
    numbers = [n for n in signal.valid_signals() if callable(signal.getsignal(n))]
    found = [(number, signal.getsignal(number)) for number in numbers]
    try:
        # `threading` may take the wrong thread for the main one, so ask Python by setting one
        for number, handler in found[:1]:
            signal.signal(number, handler)
    except ValueError as error:
        if "main thread" in str(error):
            return []
        raise
    return found


#: Cache files being read, each for the one before. No kept signal is delivered meanwhile.
readers: list[str] = []


@contextlib.contextmanager
def reading(name):
    readers.append(name)
    try:
        yield
    finally:
        readers.pop()


@contextlib.contextmanager
def uninterrupted():
    """Let signals with Python handlers wait, and refuse a stack that is too short.

    Only the main thread handles signals. Ctrl-C is one: during LLVM's ownership transfer it would
    crash the process.
    """
    refuse_short_stack()
    former = handlers_in_python()
    later = [(n, h if isinstance(h, Later) else Later(h)) for n, h in former]
    try:
        set_handlers(later)
        yield
    finally:
        set_handlers(former)
        if not readers:
            for _, handler in later:
                handler.deliver()


def refuse_short_stack():
    """Raise the RecursionError that compiling would, before Numba's tables are half changed."""
    try:
        sys._getframe(max(0, sys.getrecursionlimit() - DEPTH))
    except ValueError:  # the stack is not that deep
        return
    raise RecursionError(f"numba_linear compiles here, which needs {DEPTH} calls more")
