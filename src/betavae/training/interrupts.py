"""Defer interrupts, so that training stops between two records."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def deferred_interrupts() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM, so that the training loop stops after the current record.

    A second Ctrl-C stops it immediately. A second SIGTERM does not, because a process may receive two: job schedulers
    send SIGTERM to all processes, and the driver of a study forwards its own. In threads other than the main thread,
    no signals are collected.

    Yields:
        The list of signals received so far.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def receive(number: int, frame: object) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    previous = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
