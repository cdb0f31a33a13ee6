"""Tasks on threads and on processes: same manifests, same errors, same retries."""

import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from parsl.jobs.states import JobState, JobStatus

from data.calls import LostProcessError, TimeLimitError
from surrogates.distributed.launcher import TrainingError
from workflows.engine.driving import parsl_setup
from workflows.engine.driving.campaign import gather
from workflows.engine.driving.journal import read_journal
from workflows.engine.driving.parsl_setup import (
    RETRIES,
    retry_cost,
)
from workflows.engine.driving.tasks import Task
from workflows.engine.files.artefacts import Manifest
from workflows.engine.sites.failed_blocks import (
    LostExecutorError,
    explain_failed_blocks,
)
from workflows.engine.sites.site import load_site
from workflows.engine.watching.events import read_events
from workflows.engine.watching.run_state import RunState

SITES = ["laptop", "laptop_htex"]
CHECKOUT = Path(__file__).parents[3]


def sim(step, version="1"):
    return Task(step, role="sim", version=version)


def starts(folder):
    return [e["task"] for e in read_events(folder) if e.get("event") == "start"]


def test_threads_and_processes_give_the_same_manifests_on_one_thread(
    tmp_path, campaign_on
):
    import little_steps as steps

    results = {}
    for site in SITES:
        with campaign_on(site) as campaign:
            squares = [
                campaign.submit(sim(steps.square), steps.Number(i)) for i in range(6)
            ]
            summed = campaign.submit(
                sim(steps.total),
                steps.Numbers((1.5, 0.1)),
                squares=squares,
                offset=squares[2],
            )
            threads = campaign.submit(sim(steps.count_threads), steps.Numbers())
            manifests = gather([*squares, summed, threads])
        results[site] = [(m.artefacts, m.facts) for m in manifests]
        assert manifests[-2].facts == {"total": 55, "offset": 2}
        assert manifests[-1].facts == {"torch": 1, "variable": "1"}
        assert len(starts(tmp_path / "run")) == 8
        (tmp_path / "run").rename(tmp_path / site)
    assert results["laptop"] == results["laptop_htex"]


def words_of(process):
    """The command line of a process, none if it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_processes_listen_on_the_loopback_address_only(campaign_on):
    import little_steps as steps

    with campaign_on("laptop_htex") as campaign:
        gather([campaign.submit(sim(steps.square), steps.Number(1))])
        folder = str(campaign.folder)
        family = {psutil.Process(), *psutil.Process().children(recursive=True)}
        family |= {
            process
            for process in psutil.process_iter()
            if any(folder in word for word in words_of(process))
        }
        listening = [
            connection.laddr.ip.removeprefix("::ffff:")
            for process in family
            for connection in process.net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        ]
    assert len(family) >= 4, "driver, interchange, manager and workers"
    assert listening
    assert set(listening) == {"127.0.0.1"}


def test_what_parsl_finds_in_the_journal_at_launch_counts_as_reused(
    tmp_path, campaign_on
):
    import little_steps as steps

    def summary(version):
        with campaign_on() as campaign:
            square = campaign.submit(sim(steps.square, version), steps.Number(2))
            total = campaign.submit(sim(steps.total), steps.Numbers(), squares=[square])
            gather([total])
        return campaign._progress.summary()

    assert summary("1").startswith("2 tasks computed, 0 reused")
    # another version of the square writes the same file: the total stands
    assert summary("2").startswith("1 tasks computed, 1 reused")


@pytest.mark.parametrize("site", SITES)
def test_deterministic_error_is_raised_as_itself_and_not_retried(
    tmp_path, campaign_on, site
):
    import little_steps as steps

    def pipeline():
        with campaign_on(site) as campaign:
            squares = [campaign.submit(sim(steps.square), steps.Number(1))]
            squares.append(campaign.submit(sim(steps.refuse), steps.Number(7)))
            gather(
                [campaign.submit(sim(steps.total), steps.Numbers(), squares=squares)]
            )

    with pytest.raises(ValueError, match="value must be even; got 7") as caught:
        pipeline()
    notes = "\n".join(caught.value.__notes__)
    assert 'little_steps:refuse: {"seconds": 0.0, "value": 7}' in notes
    assert "total[0] <- refuse[0]" in notes
    assert starts(tmp_path / "run").count("refuse[0]") == 1
    assert {r["step"] for r in read_journal(tmp_path / "run" / "journal.jsonl")} <= {
        "little_steps:square"
    }


@pytest.mark.parametrize(
    ("site", "name", "cause"),
    [
        ("laptop", "fail_once", "OSError: [Errno 28] no space left on tier"),
        ("laptop_htex", "die_once", "WorkerLost: "),
    ],
)
def test_transient_failure_is_retried_and_recorded(
    tmp_path, campaign_on, site, name, cause
):
    import little_steps as steps

    with campaign_on(site) as campaign:
        gather([campaign.submit(sim(getattr(steps, name)), steps.Number(1))])
    [line] = read_journal(tmp_path / "run" / "journal.jsonl")
    assert line["tries"] == 2
    assert starts(tmp_path / "run") == [f"{name}[0]"] * 2
    [retry] = [e for e in read_events(tmp_path / "run") if e.get("event") == "retry"]
    assert (retry["task"], retry["try"]) == (f"{name}[0]", 2)
    assert retry["cause"].startswith(cause)


@pytest.mark.parametrize(
    ("error", "is_transient"),
    [
        (OSError("stale handle"), True),
        (LostProcessError("killed"), True),
        (TrainingError("rank 1 was killed"), True),
        (TrainingError("loss is NaN", is_deterministic=True), False),
        (FileNotFoundError("grid.nc"), False),
        (TimeLimitError("30 s"), False),
        (ValueError("diverged"), False),
        (ImportError("libphysics"), False),
    ],
)
def test_only_what_another_try_may_mend_is_retried(error, is_transient):
    assert (retry_cost(error) <= RETRIES) == is_transient


@pytest.mark.parametrize(
    "site", ["laptop", pytest.param("laptop_htex", marks=pytest.mark.slow)]
)
def test_step_that_hangs_in_compiled_code_is_killed_at_its_limit(
    tmp_path, campaign_on, site
):
    import little_steps as steps

    endless = Task(steps.loop_in_compiled_code, "sim", "1", time_limit_s=3.0)
    with (
        pytest.raises(TimeLimitError, match="must end within 3 s; it was killed"),
        campaign_on(site) as campaign,
    ):
        gather([campaign.submit(endless, steps.Number(1))])
    process = int((tmp_path / "run" / "hanging").read_text())
    assert not psutil.pid_exists(process), "the step outlived its limit"
    assert len(starts(tmp_path / "run")) == 1, "it would hang again"


def test_step_with_a_limit_gives_and_raises_what_it_does_without(campaign_on):
    import little_steps as steps

    limited = Task(steps.refuse_odd, "sim", "1", time_limit_s=60.0)
    with campaign_on() as campaign:
        [plain] = gather([campaign.submit(sim(steps.square), steps.Number(4))])
        even = campaign.submit(limited, steps.Number(4))
        odd = campaign.submit(limited, steps.Number(5))
        lost = campaign.submit(
            Task(steps.lose_process, "sim", "1", time_limit_s=60.0), steps.Number(1)
        )
        assert even.result().artefacts == plain.artefacts
        with pytest.raises(ValueError, match="value must be even; got 5"):
            odd.result()
        assert "in refuse_odd" in odd.exception().remote_traceback
        with pytest.raises(LostProcessError, match="ended by signal 9"):
            lost.result()
    retries = [e for e in read_events(campaign.folder) if e.get("event") == "retry"]
    assert [e["task"] for e in retries] == ["lose_process[0]"] * RETRIES


def test_failed_members_are_recorded_and_left_out_down_to_the_quorum(
    tmp_path, campaign_on
):
    import little_steps as steps

    def members(campaign):
        task = sim(steps.refuse_odd)
        return {i: campaign.submit(task, steps.Number(i)) for i in (0, 2, 3, 4)}

    seeds = {0: 10, 2: 12, 3: 13, 4: 14}
    with campaign_on() as campaign:
        found = campaign.gather_members(members(campaign), seeds, quorum=0.75)
        total = campaign.submit(
            sim(steps.total), steps.Numbers(), squares=list(found.manifests.values())
        )
        assert gather([total])[0].facts["total"] == 0 + 4 + 16
    assert found.failed == {3: "ValueError: value must be even; got 3."}
    events = read_events(tmp_path / "run")
    [event] = [e for e in events if e.get("event") == "member failed"]
    assert (event["member"], event["seed"]) == (3, 13)
    with (
        pytest.raises(ValueError, match=r"at least 80% .* 1 of 4 failed, the first: V"),
        campaign_on() as campaign,
    ):
        campaign.gather_members(members(campaign), seeds, quorum=0.8)


def test_machine_that_fails_is_no_member_that_fails(campaign_on):
    import little_steps as steps

    with campaign_on() as campaign:
        lost = {0: campaign.submit(sim(steps.lose_storage), steps.Number(1))}
        with pytest.raises(ConnectionResetError, match="storage must answer"):
            campaign.gather_members(lost, {0: 0}, quorum=0.0)


def test_blocks_are_noted_from_submission_to_end(tmp_path, campaign_on):
    import little_steps as steps

    with campaign_on("laptop_htex") as campaign:
        gather([campaign.submit(sim(steps.square), steps.Number(1))])
    blocks = [e for e in read_events(tmp_path / "run") if e.get("event") == "block"]
    assert {(e["executor"], e["block"]) for e in blocks} == {("processes", "0")}
    assert blocks[0]["state"] == "pending"
    assert blocks[0]["job"].isdigit()
    assert (blocks[-1]["state"], blocks[-1]["outcome"]) == ("ended", "scaled_in")


def test_failure_drops_what_waits_for_a_thread(tmp_path, campaign_on):
    import little_steps as steps

    def pipeline():
        with campaign_on("laptop") as campaign:
            first = campaign.submit(sim(steps.refuse), steps.Number(7))
            for value in range(200):
                campaign.submit(sim(steps.square), steps.Number(value, seconds=0.05))
            gather([first])

    with pytest.raises(ValueError, match="must be even"):
        pipeline()
    assert len(starts(tmp_path / "run")) < 100


def test_manifest_that_is_not_json_is_refused(campaign_on):
    import little_steps as steps

    for step, message in [
        (steps.return_nothing, "must return a Manifest"),
        (steps.state_infinity, "finite JSON"),
    ]:
        with (
            pytest.raises((TypeError, ValueError), match=message),
            campaign_on() as campaign,
        ):
            gather([campaign.submit(sim(step), steps.Numbers())])


def test_record_that_does_not_survive_json_is_refused(campaign_on):
    import little_steps as steps

    with campaign_on() as campaign:
        for bad in [float("nan"), float("inf")]:
            with pytest.raises(ValueError, match="finite JSON values"):
                campaign.submit(sim(steps.square), steps.Numbers((1.0, bad)))


def test_step_that_no_worker_can_import_is_refused(campaign_on):
    import little_steps as steps

    def local_step(record, folder, log):
        return Manifest()

    with (
        campaign_on() as campaign,
        pytest.raises(ValueError, match="importable module"),
    ):
        campaign.submit(sim(local_step), steps.Numbers())


def test_step_of_a_site_file_is_refused(tmp_path, campaign_on):
    import little_steps as steps

    text = (CHECKOUT / "site-configs" / "laptop.py").read_text()
    path = tmp_path / "own.py"
    path.write_text(text + "\n\ndef compute(record, folder, log):\n    pass\n")
    load_site(str(path))
    step = sys.modules["_headrace_site_own"].compute
    with (
        campaign_on() as campaign,
        pytest.raises(ValueError, match="importable module; got _headrace_site_own"),
    ):
        campaign.submit(sim(step), steps.Numbers())


def test_leaving_the_campaign_waits_for_what_was_submitted(campaign_on):
    import little_steps as steps

    with campaign_on() as campaign:
        square = campaign.submit(sim(steps.square), steps.Number(3, seconds=0.1))
        last = campaign.submit(sim(steps.total), steps.Numbers(), squares=[square])
    assert last.done()
    assert last.result().facts["total"] == 9


@pytest.mark.parametrize(
    ("states", "stops"),
    [
        ("MISSING", True),
        ("MISSING MISSING", True),
        ("MISSING PENDING", False),
        ("FAILED", False),  # it had started: the next takes its tasks
        ("REFUSED", True),
        ("COMPLETED REFUSED MISSING REFUSED", True),
        ("RUNNING REFUSED REFUSED REFUSED", False),
        ("COMPLETED MISSING MISSING", False),
        ("COMPLETED MISSING MISSING MISSING", True),
        ("RUNNING MISSING MISSING MISSING", False),
        ("", False),
    ],
)
def test_workers_that_do_not_start_stop_the_executor(states, stops):
    told = []

    class Executor:
        label, provider = "workers", None
        set_bad_state_and_fail_all = told.append

    jobs = [
        JobStatus(JobState.FAILED, "no such queue")
        if name == "REFUSED"
        else JobStatus(JobState[name])
        for name in states.split()
    ]
    explain_failed_blocks(Executor, {str(n): job for n, job in enumerate(jobs)})
    assert [str(error)[:34] for error in told] == [
        "workers of executor workers must s"
    ] * stops


def test_every_loss_of_an_interchange_is_told_once():
    """Two executors of real processes; the second is killed once the first is told."""
    over, told = threading.Event(), []

    class Executor:
        def __init__(self, label, words):
            self.label = label
            self.interchange_proc = subprocess.Popen(words, stdin=subprocess.PIPE)

        def set_bad_state_and_fail_all(self, error):
            told.append((self.label, type(error)))
            if self.label == "first":
                second.interchange_proc.kill()
            else:
                over.set()

    first = Executor("first", [sys.executable, "-c", ""])
    second = Executor("second", [sys.executable, "-c", "input()"])
    kernel = SimpleNamespace(executors={"first": first, "second": second})
    watch = threading.Thread(target=parsl_setup._watch, args=(kernel, over))
    watch.start()
    watch.join(60)
    second.interchange_proc.kill()
    for executor in (first, second):
        executor.interchange_proc.communicate()
    assert told == [("first", LostExecutorError), ("second", LostExecutorError)]


def test_what_a_step_logs_is_never_taken_for_the_engines_own(tmp_path, campaign_on):
    import little_steps as steps

    with campaign_on("laptop") as campaign:
        step = steps.log_words_of_the_engine
        gather([campaign.submit(sim(step), steps.Number(1))])
    events = read_events(tmp_path / "run")
    kinds = Counter(event.get("event") for event in events)
    assert (kinds["start"], kinds["epoch"]) == (1, 0)
    facts = [event["fact"] for event in events if event.get("event") == "fact"]
    assert {"event": "epoch", "loss": 0.5} in facts
    assert {"event": "found", "time": "noon"} in facts
    [found] = [event for event in events if event.get("event") == "found"]
    assert found["depth"] == 3
    state = RunState()
    state.fold(events)
    assert state.stages["log_words_of_the_engine"].n_done == 1
