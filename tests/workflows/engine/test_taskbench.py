"""Task Bench: its graphs, the check that every task makes, and its guards."""

import pytest

from benchmarks.task_graphs import GRAPHS, TaskRecord, points, predecessors, run_point
from benchmarks.taskbench import Point, minimum_granularity, run_graph
from workflows.engine.driving.tasks import Task


def test_graphs_are_those_of_task_bench():
    def of(graph, step, point):
        return predecessors(graph, 8, step, point)

    assert of("trivial", 3, 4) == []
    assert of("stencil_1d", 3, 0) == [0, 1]
    assert of("stencil_1d", 3, 4) == [3, 4, 5]
    assert [of("fft", step, 4) for step in (1, 2, 3, 4)] == [
        [3, 4, 5],
        [2, 4, 6],
        [0, 4],
        [3, 4, 5],
    ]
    assert [len(points("tree", 8, step)) for step in range(6)] == [1, 2, 4, 8, 8, 8]
    assert [of("tree", step, 1) for step in (1, 2, 3, 4)] == [[0], [0], [0], [1]]
    assert of("all_to_all", 1, 5) == list(range(8))
    assert of("random", 2, 3) == of("random", 2, 3), "the same in every process"
    for graph in GRAPHS:
        assert of(graph, 0, 0) == []


@pytest.mark.parametrize("graph", GRAPHS)
def test_every_task_gets_exactly_its_predecessors(campaign_on, graph):
    from benchmarks.task_graphs import point_step

    task = Task(point_step, "sim", "1")
    with campaign_on() as campaign:
        run_graph(
            lambda record, given: campaign.submit(task, record, given=given),
            *(graph, 4, 4, 1, 0),
        )
        done = campaign._progress.summary()
    n_tasks = sum(len(points(graph, 4, step)) for step in range(4))
    assert done.startswith(f"{n_tasks} tasks computed, 0 reused, 0 failed")


@pytest.mark.parametrize(
    "given", [[], [(2, 3), (2, 4)], [(2, 3), (2, 4), (2, 6)], [(1, 3), (1, 4), (1, 5)]]
)
def test_other_inputs_are_refused(given):
    record = TaskRecord("stencil_1d", 8, 3, 4, 1, 0)
    assert run_point(record, [(2, 4), (2, 3), (2, 5)]) == (3, 4)
    with pytest.raises(ValueError, match=r"task \(3, 4\) of stencil_1d must be given"):
        run_point(record, given)


def test_granularity_lies_between_the_runs_around_the_threshold():
    overhead = 0.002  # a constant one per task: half is lost at twice as much
    runs = [Point(t + overhead, t / (t + overhead)) for t in (1e-3, 3e-3, 0.1)]
    # straight between two points of the curve
    assert minimum_granularity(runs) == pytest.approx(2 * overhead, rel=0.1)


@pytest.mark.parametrize(
    ("efficiencies", "cause"),
    [
        ((0.2, 0.7), r"peak efficiency must be 0.8 to 1.2; got 0.70"),
        ((0.2, 1.6), r"peak efficiency must be 0.8 to 1.2; got 1.60"),
        ((0.6, 0.9), r"some run must be less than 0.5 efficient; got 0.60"),
    ],
)
def test_granularity_that_nothing_supports_is_refused(efficiencies, cause):
    runs = [Point(0.01 * (k + 1), share) for k, share in enumerate(efficiencies)]
    with pytest.raises(ValueError, match=cause):
        minimum_granularity(runs)
