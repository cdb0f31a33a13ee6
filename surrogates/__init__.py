"""Models that stand in for simulators: networks, linear baselines, scores, training."""
