"""The files of a run: its folder, artefacts, arrays, ensemble and storage tiers."""
