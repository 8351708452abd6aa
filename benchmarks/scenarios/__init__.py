"""What is measured, and how: one file for each scenario. Each has `run(settings) -> Report`."""
