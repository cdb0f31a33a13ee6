"""What runs after what: one package per workflow, and the engine that they share."""
