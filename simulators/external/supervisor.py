"""Runs one program in a process group of its own, and ends the group with itself.

    python -I -S supervisor.py LOG WORD...

The whole group is killed when the program has ended, and when standard input closes:
its starter ended, by whatever cause, or has no more time to give. Prints the return
code as `subprocess` gives it. Lives in a session of its own, so that what kills the
starter leaves it the instant that it needs.
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

CANNOT_START = 126  # as shells say it


def main() -> None:
    """Start the program, wait for its end or that of standard input."""
    log, *words = sys.argv[1:]
    with open(log, "wb") as stream:  # noqa: PTH123  # pathlib takes longer to import
        try:
            program = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            stream.write(f"{error}\n".encode())
            return _say(CANNOT_START)
    threading.Thread(target=_end_with_input, args=(program.pid,), daemon=True).start()
    code = program.wait()
    _kill_group(program.pid)
    return _say(code)


def _end_with_input(group: int) -> None:
    while os.read(0, 1):
        pass
    _kill_group(group)


def _kill_group(group: int) -> None:
    # its number is not given anew at once: the kernel counts upwards
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _say(code: int) -> None:
    # the starter may be gone
    with suppress(BrokenPipeError):
        os.write(1, str(code).encode())


if __name__ == "__main__":
    main()
