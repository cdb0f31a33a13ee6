"""How many snapshots are enough to learn from so many sensors."""

MIN_SNAPSHOTS = 20
MIN_SNAPSHOTS_PER_SENSOR = 0.25


def snapshots_needed(n_sensors: int) -> int:
    """One for four sensors and 20 at least: fewer cannot tell spread from noise."""
    return max(MIN_SNAPSHOTS, int(MIN_SNAPSHOTS_PER_SENSOR * n_sensors))
