"""Real programs: a solver in C, and shells that fail, hang and fork."""

import os
import select
import shutil
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from simulators.external import (
    LOG,
    ExternalProgramError,
    ExternalSimulator,
    run_member,
    run_members,
)

ROOT = Path(__file__).parents[3]
DIFFUSION = r"""
#include <stdio.h>
#include <stdlib.h>
/* explicit diffusion between zero ends: diffusion NUMBER STEPS IN OUT */
int main(int argc, char **argv) {
    double number = atof(argv[1]), u[1000] = {0}, v[1000] = {0};
    int steps = atoi(argv[2]), n = 0;
    FILE *in = fopen(argv[3], "r"), *out;
    while (in && n < 1000 && fscanf(in, "%lf", &u[n]) == 1) n++;
    if (n < 3) {
        fprintf(stderr, "%s: needs 3 values, got %d\n", argv[3], n);
        return 3;
    }
    if (number > 0.5) {
        fprintf(stderr, "unstable: %g > 0.5\n", number);
        return 4;
    }
    for (int s = 0; s < steps; s++) {
        for (int i = 1; i < n - 1; i++)
            v[i] = u[i] + number * (u[i - 1] - 2 * u[i] + u[i + 1]);
        for (int i = 1; i < n - 1; i++) u[i] = v[i];
    }
    out = fopen(argv[4], "w");
    for (int i = 0; i < n; i++) fprintf(out, "%.17g\n", u[i]);
    printf("%d steps\n", steps);
    return fclose(out);
}
"""


@pytest.fixture(scope="session")
def diffusion(tmp_path_factory):
    """The program of `DIFFUSION`, built by the C compiler of this machine."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler `cc` on PATH")
    folder = tmp_path_factory.mktemp("diffusion")
    (folder / "diffusion.c").write_text(DIFFUSION)
    build = ["cc", "-O1", "-o", "diffusion", "diffusion.c"]
    subprocess.run(build, cwd=folder, check=True)
    return folder / "diffusion"


def write_profile(parameters, folder):
    np.savetxt(folder / "in.txt", parameters["profile"])


def read_profile(folder):
    return {"u": np.loadtxt(folder / "out.txt")}


def solver(program, scratch, **changes):
    command = (str(program), "{number}", "{steps}", "in.txt", "{folder}/out.txt")
    settings = {
        "command": command,
        "write_input": write_profile,
        "read_output": read_profile,
        "scratch": scratch,
        "time_limit_s": 60.0,
    }
    return ExternalSimulator(**(settings | changes))


def shell(script, scratch, read_output=None, time_limit_s=60.0):
    """A simulator that is a script of `sh`."""

    def read_number(folder):
        return {"value": np.loadtxt(folder / LOG)}

    return ExternalSimulator(
        ("sh", "-c", script), read_output or read_number, scratch, time_limit_s
    )


def test_a_c_program_gives_the_exact_modes_of_its_members(diffusion, tmp_path):
    """Explicit diffusion of sin(k pi x): a factor 1 - 4 r sin^2(k pi/2N) per step."""
    n, steps, number = 40, 50, 0.3
    x = np.arange(n + 1) / n
    members = {
        k: {"number": number, "steps": steps, "profile": np.sin(k * np.pi * x)}
        for k in (1, 2, 5)
    }
    outcomes = run_members(solver(diffusion, tmp_path / "scratch"), members)
    assert not outcomes.failures
    for k, result in outcomes.results.items():
        factor = 1 - 4 * number * np.sin(k * np.pi / (2 * n)) ** 2
        exact = factor**steps * members[k]["profile"]
        np.testing.assert_allclose(result["u"], exact, rtol=0, atol=1e-14)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_failed_members_are_left_out_with_their_cause(diffusion, tmp_path):
    profile = np.sin(np.linspace(0, np.pi, 11))
    members = {
        7: {"number": 0.2, "steps": 3, "profile": profile},
        8: {"number": 0.9, "steps": 3, "profile": profile},
        9: {"number": 0.2, "steps": 3, "profile": profile[:2]},
    }
    results, failures = run_members(solver(diffusion, tmp_path), members)
    assert list(results) == [7]
    assert list(failures) == [8, 9]
    assert "member 8 must end with exit code 0; got code 4" in failures[8]
    assert "unstable: 0.9 > 0.5" in failures[8]
    assert "in.txt: needs 3 values, got 2" in failures[9]
    kept = {path.name.rsplit("-", 1)[0]: path for path in tmp_path.iterdir()}
    assert sorted(kept) == ["member-8", "member-9"]
    for member, path in ((8, kept["member-8"]), (9, kept["member-9"])):
        assert str(path) in failures[member]
        assert sorted(p.name for p in path.iterdir()) == ["in.txt", LOG]


def test_the_command_in_the_message_shows_the_failure_again(diffusion, tmp_path):
    """Also where the scratch path has a space and a quote in it."""
    scratch = tmp_path / "it's scratch"
    bad = {"number": 0.9, "steps": 3, "profile": np.zeros(5)}
    with pytest.raises(ExternalProgramError) as caught:
        run_member(solver(diffusion, scratch), 0, bad)
    line = str(caught.value).split("See it again: ")[1].splitlines()[0]
    again = subprocess.run(["sh", "-c", line], capture_output=True, check=False)
    assert (again.returncode, again.stderr) == (4, b"unstable: 0.9 > 0.5\n")


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        ("echo lost >&2; exit 3", r"got code 3\..*\nThe end of program.log:\n    lost"),
        ("kill -9 $$", r"got signal SIGKILL\..*\nIt printed nothing"),
        ("seq 1000; exit 1", r"\n    986\n(.*\n)*    1000$"),
        ("echo 12 apples", "ValueError: could not convert string 'apples'"),
        ("printf '\\377\\376garbage'", "UnicodeDecodeError"),
        ("echo nan", r"value must be finite; got nan at \(\)"),
    ],
)
def test_exit_codes_signals_and_garbage_are_told_with_the_end_of_the_log(
    script, cause, tmp_path
):
    with pytest.raises(ExternalProgramError, match=cause) as caught:
        run_member(shell(script, tmp_path), 5, {})
    (kept,) = tmp_path.iterdir()
    assert f"Its files are kept in {kept}." in str(caught.value)


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        ({}, "one array at least; got none"),
        ({"a": np.array([])}, r"a must hold values; got shape \(0,\)"),
        ({"a": np.array(["x"])}, "a must hold numbers; got dtype <U1"),
        ({"a": [1.0, np.inf]}, r"a must be finite; got inf at \(1,\)"),
    ],
)
def test_output_that_is_no_finite_numbers_is_refused(output, cause, tmp_path):
    simulator = shell("true", tmp_path, read_output=lambda _: output)
    with pytest.raises(ExternalProgramError, match=cause):
        run_member(simulator, 0, {})


def test_missing_output_files_and_bad_input_are_causes_too(diffusion, tmp_path):
    silent = solver("true", tmp_path)
    members = {0: {"number": 1, "steps": 1, "profile": np.zeros(5)}}
    assert "FileNotFoundError" in run_members(silent, members).failures[0]
    members = {0: {"number": 0.1, "steps": 1}}
    failures = run_members(solver(diffusion, tmp_path), members).failures
    assert "input of diffusion of member 0 must be written; got KeyError" in failures[0]


def test_a_full_scratch_is_no_fault_of_a_member(diffusion, tmp_path):
    def write_to_full_device(_parameters, _folder):
        raise OSError(28, "No space left on device")

    simulator = solver(diffusion, tmp_path, write_input=write_to_full_device)
    with pytest.raises(OSError, match="No space left"):
        run_members(simulator, {0: {"number": 0.1, "steps": 1}})
    assert list(tmp_path.iterdir()) == []


class Witness:
    """A FIFO that programs hold open: its end is reached when the last one is dead."""

    def __init__(self, path):
        os.mkfifo(path)
        self.path = path
        self._reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def read(self):
        """What is written next; b"" when nobody holds it any more."""
        ready, _, _ = select.select([self._reader], [], [], 30)
        assert ready, "a process survives, or never started"
        return os.read(self._reader, 100)


@pytest.fixture
def witness(tmp_path):
    return Witness(tmp_path / "witness")


# holds the witness itself and in two more processes, one of which nobody waits for
FORKING = "exec 3>{witness}; (sleep 1000; :) & sleep 1000 & echo ready >&3; "


def test_a_program_that_hangs_is_killed_with_all_that_it_started(witness, tmp_path):
    script = FORKING.format(witness=witness.path) + "echo step 12; wait"
    simulator = shell(script, tmp_path / "scratch", time_limit_s=2.0)
    with pytest.raises(ExternalProgramError) as caught:
        run_member(simulator, 4, {})
    assert "within time_limit_s = 2 s" in str(caught.value)
    assert str(caught.value).endswith(f"The end of {LOG}:\n    step 12")
    assert witness.read() == b"ready\n"
    assert witness.read() == b""


def test_what_a_finished_program_leaves_running_is_killed(witness, tmp_path):
    script = FORKING.format(witness=witness.path) + "echo 7"
    assert run_member(shell(script, tmp_path / "scratch"), 4, {}) == {"value": 7}
    assert witness.read() == b"ready\n"
    assert witness.read() == b""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_worker_takes_its_program_along(how, witness, tmp_path):
    script = FORKING.format(witness=witness.path) + "wait"
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, script, str(tmp_path / "scratch")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    assert witness.read() == b"ready\n"
    worker.send_signal(how)
    assert witness.read() == b""
    assert worker.wait(30) != 0


WORKER = """
import sys
from pathlib import Path
from simulators.external import ExternalSimulator, run_member
command, scratch = ("sh", "-c", sys.argv[1]), Path(sys.argv[2])
run_member(ExternalSimulator(command, lambda _: {}, scratch, 1000.0), 0, {})
"""


def test_programs_that_cannot_run_are_refused_before_the_first_member(tmp_path):
    plain = tmp_path / "plain.txt"
    plain.write_text("no program")
    for program in ("no-such-program", str(plain), str(tmp_path)):
        simulator = solver(program, tmp_path / "scratch")
        with pytest.raises(FileNotFoundError, match=f"on PATH.*got {program}"):
            run_members(simulator, {0: {"number": 0.1, "steps": 1}})
        assert list((tmp_path / "scratch").iterdir()) == []


def test_a_file_that_only_looks_executable_says_why_it_did_not_start(tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("no program")
    broken.chmod(0o755)
    simulator = solver(broken, tmp_path / "scratch", write_input=None)
    with pytest.raises(ExternalProgramError, match=r"code 126\.(.*\n)+.*Exec format"):
        run_member(simulator, 0, {"number": 0.1, "steps": 1})


def test_a_program_by_a_relative_path_runs_in_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "where.sh"
    program.write_text("#!/bin/sh\npwd\n")
    program.chmod(0o755)
    places = []

    def read_place(folder):
        places.append((folder / LOG).read_text().strip() == str(folder.resolve()))
        return {"found": [1]}

    simulator = ExternalSimulator(("./where.sh",), read_place, Path("scratch"), 60.0)
    run_member(simulator, 0, {})
    assert places == [True]


def test_placeholders_are_numbers_words_folder_and_member(tmp_path):
    command = ("echo", "{member}", "{rate:.2f}", "{{1}}", "{name}", "{count}")
    seen = []

    def read_words(folder):
        seen.append((folder / LOG).read_text())
        return {"n": [len(seen)]}

    simulator = ExternalSimulator(command, read_words, tmp_path, 60.0)
    parameters = {"rate": np.float64(0.1234), "name": "a b; ls", "count": np.int32(3)}
    run_member(simulator, 12, parameters | {"field": np.zeros(3)})
    assert seen == ["12 0.12 {1} a b; ls 3\n"]


@pytest.mark.parametrize("word", ["{fluxx}", "{field}", "{}", "{flux"])
def test_placeholders_without_a_value_are_refused(word, tmp_path):
    simulator = ExternalSimulator(("echo", word), lambda _: {}, tmp_path, 60.0)
    members = {0: {"flux": 1.0, "field": np.zeros(3)}}
    with pytest.raises(ValueError, match="must be one of flux, folder, member; got"):
        run_members(simulator, members)
    assert list(tmp_path.iterdir()) == []


def test_shell_lines_and_useless_limits_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"Write \['mf6', '-s'\]"):
        ExternalSimulator("mf6 -s", lambda _: {}, tmp_path, 60.0)
    with pytest.raises(ValueError, match="got no words"):
        ExternalSimulator((), lambda _: {}, tmp_path, 60.0)
    for limit in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="time_limit_s must be positive"):
            ExternalSimulator(("true",), lambda _: {}, tmp_path, limit)


def test_members_run_in_folders_of_their_own(tmp_path):
    numbers = count()

    def read_next(folder):
        assert list(tmp_path.iterdir()) == [folder]
        return {"n": [next(numbers)]}

    simulator = ExternalSimulator(("true",), read_next, tmp_path, 60.0)
    results, _ = run_members(simulator, {3: {}, 1: {}})
    assert [results[3]["n"], results[1]["n"]] == [0, 1]
