"""Tasks: how they are described, driven by Parsl, remembered and steered."""
