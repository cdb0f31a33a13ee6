"""Runs one program in a process group of its own, and ends the group with itself.

    python -I -S supervisor.py WORD...

The whole group is killed when the program has ended, when standard input closes, and
when the parent is another: its starter ended, by whatever cause, or has no more time to
give. What the program prints goes to standard error. Prints the return code as
`subprocess` gives it. Lives in a session of its own, so that what kills the starter
leaves it the instant that it needs.
"""

import os
import select
import signal
import subprocess
import sys
import threading
from contextlib import suppress

CANNOT_START = 126  # as shells say it


def main() -> None:
    """Start the program, wait for its end or that of the starter; say its code."""
    starter, code = os.getppid(), CANNOT_START
    try:
        program = subprocess.Popen(
            sys.argv[1:],
            stdin=subprocess.DEVNULL,
            stdout=2,
            start_new_session=True,
            close_fds=False,  # what was passed on to here is for the program
        )
    except OSError as error:
        os.write(2, f"{error}\n".encode())
    else:
        watched = (starter, program.pid)
        threading.Thread(target=_end_with, args=watched, daemon=True).start()
        code = program.wait()
        _kill_group(program.pid)
    with suppress(BrokenPipeError):  # the starter may be gone
        os.write(1, str(code).encode())


def _end_with(starter: int, group: int) -> None:
    # nobody writes: input is ready once closed; a fork of the starter may keep it open
    while os.getppid() == starter and not select.select([0], [], [], 0.5)[0]:
        pass
    _kill_group(group)


def _kill_group(group: int) -> None:
    # its number is not given anew at once: the kernel counts upwards
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
