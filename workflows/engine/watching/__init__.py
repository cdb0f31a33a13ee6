"""What a run says of itself while it runs, and how people see it."""
