"""Warnings that are ignored in threads beside each other."""

import threading
import warnings

import pytest

from jaxtl.machine.warned import ignoring


def test_a_thread_that_leaves_first_does_not_make_the_others_hear():
    inside, left = threading.Event(), threading.Event()
    heard = []

    def stay():
        with ignoring("of no use"):
            inside.set()
            left.wait(10)
            try:
                warnings.warn("of no use", stacklevel=1)
            except UserWarning as warning:
                heard.append(warning)

    with ignoring("other"):
        thread = threading.Thread(target=stay)
        thread.start()
        inside.wait(10)
    left.set()
    thread.join()
    assert not heard
    # The last has put back what was there.
    with pytest.raises(UserWarning):
        warnings.warn("of no use", stacklevel=1)
