"""A whole sweep: one driver per study, reuse of other studies' runs, and the display."""
