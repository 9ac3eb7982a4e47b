"""A test that fails halfway must not leave its daemons behind: what its call started, and nobody ended, ends here."""
import contextlib
import os
import pathlib
import signal
import time

import pytest

signal.signal(signal.SIGTERM, signal.default_int_handler)  # a run that is ended cleans up as after Ctrl-C


def children():
    found = set()
    for task in pathlib.Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found.update(map(int, (task / "children").read_text().split()))
    return found


def end(pid):
    try:
        for number in (signal.SIGCONT, signal.SIGTERM):
            os.kill(pid, number)
        for _ in range(100):
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    before = children()
    outcome = yield
    if outcome.excinfo:
        for pid in children() - before:
            end(pid)
