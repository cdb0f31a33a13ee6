"""Real programs under supervision: codes, time, several at once, no survivors."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data.processes import end_of_log, start

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -9 $$", -9)])
def test_codes_are_those_of_the_program_negative_for_a_signal(script, code, tmp_path):
    [program] = start(["sh", "-c", script], tmp_path / "log")
    with program:
        assert program.wait() == code
        assert program.wait(0) == code  # whoever asks again


def test_what_runs_on_after_its_time_is_killed_where_the_context_ends(tmp_path):
    [program] = start(["sh", "-c", "echo $$; sleep 1000"], tmp_path / "log")
    with program:
        assert program.wait(0.5) is None
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "log").read_text()), 0)


def test_several_have_logs_of_their_own_and_variables_in_common(tmp_path):
    words, variables = ["sh", "-c", "echo $DEPTH"], {"DEPTH": "3 m"}
    for program in start(words, tmp_path / "rank.log", variables=variables, n=3):
        with program:
            assert program.wait() == 0
    logs = sorted(tmp_path.iterdir())
    assert [log.name for log in logs] == ["rank-0.log", "rank-1.log", "rank-2.log"]
    assert [log.read_text() for log in logs] == ["3 m\n"] * 3


def test_a_prefix_starts_them_all_by_one_command(tmp_path):
    twice = ("sh", "-c", '"$@"; "$@"', "sh")  # stands for `srun -n 2`
    words, log = ["sh", "-c", "pwd"], tmp_path / "rank.log"
    [command] = start(words, log, folder=tmp_path, prefix=twice, n=2)
    with command:
        assert command.wait() == 0
    assert command.log.read_text() == f"{tmp_path}\n" * 2


def test_programs_that_cannot_start_say_why(tmp_path):
    [program] = start([str(tmp_path / "none")], tmp_path / "log")
    with program:
        assert program.wait() == 126  # as shells say it
    assert "No such file or directory" in end_of_log(program.log)


STARTER = """
import os, sys, time
from pathlib import Path
from data.processes import start
[program] = start(["sh", "-c", "echo $$; sleep 1000"], Path(sys.argv[1]))
if os.fork() == 0:  # as a pool of workers does; it holds what its parent held
    time.sleep(1000)
print(os.getpid(), flush=True)
program.wait()
"""


def test_a_fork_of_a_killed_starter_keeps_nothing_alive(tmp_path):
    log = tmp_path / "log"
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(log)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    with starter:
        try:
            starter.stdout.readline()
            while not log.read_text().endswith("\n"):
                assert starter.poll() is None
            program = os.pidfd_open(int(log.read_text()))
            starter.send_signal(signal.SIGKILL)
            ended, _, _ = select.select([program], [], [], 20.0)
            os.close(program)
            assert ended
        finally:
            os.killpg(starter.pid, signal.SIGKILL)  # the fork
