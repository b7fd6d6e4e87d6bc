"""What interrupts compiling, or the reading of Numba's cache, waits or comes before it begins.

Numba's and LLVM's tables change in many steps, and some code of theirs drops what is raised inside
it: an error on the way to a file of the cache, for instance, counts as a missing file. A signal's
handler may raise anything anywhere. So signals wait for the end of the innermost function that is
being compiled, and a stack that is too short for compiling is refused at once.
"""

import contextlib
import signal
import sys
import threading

#: Calls that compiling needs on top of its caller's; it took 262 Python functions.
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
    """Set them all, also if one of the former raises meanwhile; what it raised comes out then."""
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
    """The signals that Python functions handle, with these functions; none outside the one thread
    that may set them."""
    if threading.current_thread() is not threading.main_thread():
        return []
    numbers = [n for n in signal.valid_signals() if callable(signal.getsignal(n))]
    found = [(number, signal.getsignal(number)) for number in numbers]
    try:
        # `threading` takes the thread that imported it for the main one: Python itself decides
        for number, handler in found[:1]:
            signal.signal(number, handler)
    except ValueError as error:
        if "main thread" in str(error):
            return []
        raise
    return found


#: Files of the cache being read, each for the sake of the one before: in there nothing is raised.
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
    """Let signals with handlers in Python wait, and refuse a stack that is too short.

    Only the main thread ever sees a signal. Ctrl-C is one: while LLVM's objects change hands it
    would end the process.
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
    """Raise RecursionError where compiling would, but before Numba's tables are half changed."""
    try:
        sys._getframe(max(0, sys.getrecursionlimit() - DEPTH))
    except ValueError:  # there is no frame as deep as that
        return
    raise RecursionError(f"numba_linear compiles here, which needs {DEPTH} calls more")
