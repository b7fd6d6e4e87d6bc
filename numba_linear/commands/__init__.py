"""The commands of ``python -m numba_linear``, one to a file. Only `__main__` imports them."""


class UserError(Exception):
    """A request that cannot be fulfilled; the message says why and what is expected."""


def counted(count: int, noun: str) -> str:
    """A number of things: 1 sample, 2 samples."""
    return f"{count} {noun}{'s' * (count != 1)}"
