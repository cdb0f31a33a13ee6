from itertools import permutations

import pytest
import torch

from surrogates.generative_metrics import (
    calibrate,
    consistency,
    effective_rank,
    memorisation_ratio,
    robust_spread,
    score_fields,
)

N_CELLS = 24
ROBUST_ERRORS = ("spread_error", "wasserstein_1", "covariance_error")
UNSEEN = torch.arange(0, N_CELLS, 3)
# (z84 - z16) / 2 of the standard normal distribution, by scipy.stats.norm.ppf
GAUSSIAN_SPREAD = 0.9944578832097535


@pytest.fixture(autouse=True)
def one_thread():
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def normal(seed, n_members, n_columns=N_CELLS):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_members, n_columns, generator=generator, dtype=torch.float64)


def heads(seed, n_members):
    """Correlated, offset and heavy-tailed: common factors, cells of 1 to 3 m."""
    mixing = normal(0, 6) / 6**0.5
    latent = normal(seed, n_members, 6) @ mixing + 0.3 * normal(seed + 500, n_members)
    size = 1 + 2 * torch.linspace(0, 1, N_CELLS, dtype=torch.float64)
    return 100 + size * torch.sinh(latent)


GOOD = normal(35, 20)
NOT_FINITE = torch.where(GOOD.isclose(GOOD[2, 3]), torch.nan, GOOD)
FLAT = torch.where(torch.arange(N_CELLS) == 4, 1.0, GOOD)
CONSTANT = torch.ones_like(GOOD)
GENERATOR = torch.Generator().manual_seed(36)


def test_the_robust_spread_of_a_gaussian_is_sigma():
    sigma = torch.linspace(0.5, 4, N_CELLS, dtype=torch.float64)
    relative = robust_spread(7 + sigma * normal(1, 8000)) / sigma
    # a 16 or 84 % quantile of 8000 deviates by 0.017 σ, half their difference by 0.011
    assert (relative - GAUSSIAN_SPREAD).abs().max() < 0.04


def test_the_robust_spread_equals_that_of_torch_quantile():
    fields = heads(2, 101)
    low, high = torch.quantile(fields, fields.new_tensor([0.16, 0.84]), dim=0)
    torch.testing.assert_close(robust_spread(fields), (high - low) / 2)


def test_the_robust_spread_passes_over_wild_members():
    fields = normal(3, 1000)
    wild = torch.cat([fields[:-10], 1e6 * fields[-10:]])
    change = robust_spread(wild) / robust_spread(fields) - 1
    assert change.abs().max() < 0.05


@pytest.mark.parametrize("n_cells", [3, 40], ids=["few cells", "few members"])
def test_effective_rank_is_the_ratio_of_sums_over_distinct_quadruples(n_cells):
    x = torch.sinh(normal(4, 10, n_cells))
    i, j, k, l = torch.tensor(list(permutations(range(10), 4))).T
    trace_of_square = ((x[i] - x[j]) * (x[k] - x[l])).sum(-1).square().mean() / 4
    first, second = ((x[a] - x[b]).square().sum(-1) for a, b in ((i, j), (k, l)))
    square_of_trace = (first * second).mean() / 4
    expected = float(square_of_trace / trace_of_square)
    assert effective_rank(x + 50) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n_members", [40, 1000])
def test_effective_rank_of_an_isotropic_gaussian_is_its_dimension(n_members):
    basis = torch.linalg.qr(normal(5, N_CELLS)).Q[:8]
    ranks = [effective_rank(normal(s, n_members, 8) @ basis) for s in range(6, 16)]
    # without the correction 40 members would give 6.7
    assert sum(ranks) / len(ranks) == pytest.approx(8, rel=0.04)


def test_effective_rank_of_equal_members_is_zero():
    fields = torch.full((12, N_CELLS), 0.1)
    assert effective_rank(fields) == 0
    fields[3] += 1.0
    assert effective_rank(fields) == 0


def test_an_ensemble_has_no_distance_to_itself():
    fields = heads(7, 300)
    scores = score_fields(fields, fields, UNSEEN)
    exact = ("mean_error", "deviation_error", *ROBUST_ERRORS)
    assert all(scores[key] == 0 for key in exact)
    assert scores["rank_ratio"] == 1
    # of n members, 0.9 (n - 1) lie between the two quantiles
    assert scores["coverage_90"] == pytest.approx(0.9, abs=0.005)


def test_a_shift_is_the_mean_error_and_the_wasserstein_distance():
    reference = heads(8, 200)
    shifted = reference + 0.5 * robust_spread(reference)
    scores = score_fields(shifted, reference, UNSEEN)
    assert scores["wasserstein_1"] == pytest.approx(0.5)
    rms = robust_spread(reference).square().mean().sqrt()
    sigma = reference.std(0).square().mean().sqrt()
    assert scores["mean_error"] == pytest.approx(float(0.5 * rms / sigma))
    assert max(scores["deviation_error"], scores["spread_error"]) < 1e-12


def test_wasserstein_of_a_shifted_gaussian_is_the_shift():
    scores = score_fields(normal(9, 4000) + 1.5, normal(10, 3000), UNSEEN)
    expected = 1.5 / GAUSSIAN_SPREAD
    assert scores["wasserstein_1"] == pytest.approx(expected, rel=0.02)
    assert scores["mean_error"] == pytest.approx(1.5, rel=0.02)


def test_a_wider_ensemble_errs_by_its_factor():
    reference = heads(11, 400)
    mean = reference.mean(0)
    scores = score_fields(mean + 1.4 * (reference - mean), reference, UNSEEN)
    assert scores["mean_error"] < 1e-12
    assert scores["deviation_error"] == pytest.approx(0.4)
    assert scores["spread_error"] == pytest.approx(0.4)


def test_shuffled_cells_keep_the_marginals_and_break_the_covariance():
    reference, fresh = heads(12, 1000), heads(13, 1000)
    generator = torch.Generator().manual_seed(14)
    order = [torch.randperm(1000, generator=generator) for _ in range(N_CELLS)]
    columns = [column[o] for column, o in zip(fresh.T, order, strict=True)]
    kept = score_fields(fresh, reference, UNSEEN)
    broken = score_fields(torch.stack(columns, dim=1), reference, UNSEEN)
    assert broken["wasserstein_1"] == pytest.approx(kept["wasserstein_1"])
    assert broken["covariance_error"] > 5 * kept["covariance_error"]
    assert broken["rank_ratio"] > 2


def test_one_wild_head_does_not_decide_the_robust_scores():
    reference, fresh = heads(15, 500), heads(16, 500)
    wild = fresh.clone()
    wild[0] = 1e5
    before, after = (score_fields(f, reference, UNSEEN) for f in (fresh, wild))
    assert after["deviation_error"] > 100
    # asinh leaves 1e5 at 12 scales: 144 / 500 of a variance near 0.5, in every cell
    assert after["covariance_error"] < before["covariance_error"] + 1
    assert abs(after["spread_error"] - before["spread_error"]) < 0.02
    assert abs(after["wasserstein_1"] - before["wasserstein_1"]) < 0.02


def test_coverage_of_the_same_distribution_is_nine_tenths():
    scores = score_fields(heads(17, 2000), heads(18, 1500), UNSEEN)
    assert scores["coverage_90"] == pytest.approx(0.9, abs=0.015)


def test_coverage_reads_the_unseen_cells_only():
    reference, generated = heads(19, 400), heads(20, 400)
    generated[:, UNSEEN] += 1e3
    seen = torch.arange(N_CELLS)[torch.arange(N_CELLS) % 3 > 0]
    assert score_fields(generated, reference, UNSEEN)["coverage_90"] == 0
    assert score_fields(generated, reference, seen)["coverage_90"] > 0.85


def test_a_collapsed_ensemble_has_a_low_rank():
    reference = normal(21, 500)
    line = normal(22, 300, 1) * torch.ones(N_CELLS, dtype=torch.float64)
    assert score_fields(line, reference, UNSEEN)["rank_ratio"] < 1.2 / N_CELLS
    point = reference[:1].expand(300, -1)
    assert score_fields(point, reference, UNSEEN)["rank_ratio"] == 0


def test_scores_do_not_depend_on_unit_precision_or_order():
    generated, reference = heads(23, 200), heads(24, 150)
    expected = score_fields(generated, reference, UNSEEN)
    scaled = score_fields(0.01 * generated, 0.01 * reference, UNSEEN)
    assert scaled == pytest.approx(expected, rel=1e-8)
    mixed = score_fields(generated.float(), reference, UNSEEN)
    # float32 heads near 100 m are off by 4e-6 m
    assert mixed == pytest.approx(expected, rel=1e-3)


def test_consistency_is_the_error_in_spreads():
    head = heads(25, 5)
    spread = torch.full((N_CELLS,), 2.0)
    assert consistency(head, head, spread) == 0
    assert consistency(head + 0.5, head, spread) == pytest.approx(0.25)


def test_memorised_members_are_near_and_fresh_ones_are_not():
    scale = 10.0 ** torch.arange(-2, 4).double()  # sensors count equally
    training, held_out, fresh = (scale * normal(s, 1200, 6) for s in (26, 27, 28))
    copies = training[:500]
    assert memorisation_ratio(copies, training, held_out) == 0
    near = copies + 0.01 * scale * normal(29, 500, 6)
    assert memorisation_ratio(near, training, held_out) < 0.1
    ratio = memorisation_ratio(fresh, training, held_out)
    assert ratio == pytest.approx(1, abs=0.05)


def test_calibration_holds_fresh_simulation_nine_times_in_ten():
    hits, n_trials = dict.fromkeys(score_fields(GOOD, GOOD, UNSEEN), 0), 0
    for seed in range(40, 50):
        simulated, reference = heads(1000 + seed, 400), heads(2000 + seed, 500)
        generator = torch.Generator().manual_seed(seed)
        bounds = calibrate(simulated, reference, UNSEEN, 200, 40, generator)
        for fresh in heads(3000 + seed, 2000).split(200):
            n_trials += 1
            scores = score_fields(fresh, reference, UNSEEN)
            for key, (low, high) in bounds.items():
                hits[key] += low <= scores[key] <= high
    # expected 0.9 (40 - 1) / (40 + 1) = 0.86 of 40 repeats; 0.68 without the widening,
    # as a subset is half of its pool. Trials share ten pools: deviation of 0.03
    assert 0.78 < sum(hits.values()) / (n_trials * len(hits)) < 0.96, hits
    assert min(hits.values()) > 0.6 * n_trials, hits


def test_calibration_rejects_an_ensemble_30_per_cent_too_narrow():
    simulated, reference = heads(30, 2000), heads(31, 1000)
    generator = torch.Generator().manual_seed(32)
    bounds = calibrate(simulated, reference, UNSEEN, 200, 100, generator)
    fresh = heads(33, 200)
    narrow = fresh.mean(0) + 0.7 * (fresh - fresh.mean(0))
    scores = score_fields(narrow, reference, UNSEEN)
    for key in ROBUST_ERRORS:
        assert scores[key] > bounds[key][1], key
    # one wild member of the pool moves a deviation by more than 30 %
    assert bounds["deviation_error"][1] > 0.3
    assert scores["coverage_90"] < bounds["coverage_90"][0]


def test_calibration_repeats_with_its_seed():
    fields = heads(34, 100)
    first, again = (
        calibrate(
            fields[:60], fields[60:], UNSEEN, 20, 20, torch.Generator().manual_seed(1)
        )
        for _ in range(2)
    )
    assert first == again


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: robust_spread(GOOD[:9]), "at least 10 members"),
        (lambda: effective_rank(GOOD[0]), r"\(members, cells\)"),
        (lambda: robust_spread(GOOD[:, :0]), r"\(members, cells\)"),
        (lambda: score_fields(NOT_FINITE, GOOD, UNSEEN), "generated must be finite"),
        (lambda: score_fields(GOOD, NOT_FINITE, UNSEEN), "reference must be finite"),
        (lambda: score_fields(GOOD[:, 1:], GOOD, UNSEEN), "the same cells; got .*23"),
        (lambda: score_fields(GOOD, CONSTANT, UNSEEN), "spread > 0"),
        (lambda: score_fields(GOOD, GOOD, UNSEEN + 3), "int64 indices"),
        (lambda: score_fields(GOOD, GOOD, UNSEEN - 1), "int64 indices"),
        (lambda: score_fields(GOOD, GOOD, UNSEEN[:0]), "int64 indices"),
        (lambda: score_fields(GOOD, GOOD, GOOD[0] > 0), r"mask.nonzero\(\)"),
        (lambda: consistency(GOOD, GOOD[1:], GOOD[0].abs()), "every generated member"),
        (lambda: consistency(GOOD, NOT_FINITE, GOOD[0].abs()), "must be finite"),
        (lambda: consistency(GOOD, GOOD, 0 * GOOD[0]), "spread > 0"),
        (lambda: memorisation_ratio(GOOD, GOOD[:, 1:], GOOD), "the same cells"),
        (lambda: memorisation_ratio(GOOD, FLAT, GOOD), "of the training"),
        (lambda: memorisation_ratio(GOOD, GOOD, GOOD), "differ from training"),
        (lambda: calibrate(GOOD, GOOD, UNSEEN, 11, 20, GENERATOR), "10 to 10 of the"),
        (lambda: calibrate(GOOD, GOOD, UNSEEN, 10, 19, GENERATOR), "20 repeats"),
        (lambda: calibrate(GOOD, CONSTANT, UNSEEN, 10, 20, GENERATOR), "spread > 0"),
        (lambda: calibrate(GOOD, GOOD, UNSEEN + 3, 10, 20, GENERATOR), "int64"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_cells_of_known_values_do_not_change_the_scores_of_the_others():
    generated, reference = normal(71, 60), normal(72, 80)
    columns = torch.arange(N_CELLS)
    scores = score_fields(generated, reference, UNSEEN)
    with_known = score_fields(
        torch.where(columns == N_CELLS - 1, 3.0, generated),
        torch.where(columns == N_CELLS - 1, 3.0, reference),
        UNSEEN,
    )
    without = score_fields(generated[:, :-1], reference[:, :-1], UNSEEN)
    for key in ("covariance_error", "rank_ratio", "wasserstein_1", "spread_error"):
        assert with_known[key] == pytest.approx(without[key], rel=1e-6)
        assert with_known[key] != scores[key]
