"""Warnings that are ignored in threads beside each other, and lines that are left out."""

import os
import subprocess
import sys
import threading
import warnings

import pytest

from jaxtl.machine.warned import ignoring, unsaid


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


def test_a_line_that_a_library_writes_itself_is_left_out(capfd):
    with unsaid(b"INFO: I am here"):
        os.write(2, b"INFO: I am here\n")
        os.write(2, b"ERROR: I am ill\n")
    os.write(2, b"INFO: I am here\n")
    assert capfd.readouterr().err == "ERROR: I am ill\nINFO: I am here\n"


def test_where_there_is_no_standard_error_nothing_is_lost():
    within = "os.close(2)\nwith unsaid(b''):\n    print('done')"
    program = f"import os\nfrom jaxtl.machine.warned import unsaid\n{within}"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "done\n"
