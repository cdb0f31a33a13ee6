"""How many snapshots are enough for so many sensors, and how many sensors too many."""

MIN_SNAPSHOTS = 20
MIN_SNAPSHOTS_PER_SENSOR = 0.25


def snapshots_needed(n_sensors: int) -> int:
    """One for four sensors and 20 at least: fewer cannot tell spread from noise."""
    return max(MIN_SNAPSHOTS, int(MIN_SNAPSHOTS_PER_SENSOR * n_sensors))


def require_free_cells(n_free: int, n_sensors: int) -> None:
    """Refuses more sensors of ln T than leave a tenth of the free cells to be found.

    Args:
        n_free: cells without a measurement.
        n_sensors: of ln T.

    Raises:
        ValueError: names the largest number.
    """
    most = n_free * 9 // 10
    if n_sensors > most:
        raise ValueError(
            f"ln T must have at most {most} sensors, nine tenths of the {n_free} "
            f"unmeasured cells, for the others are to be found; got {n_sensors}."
        )
