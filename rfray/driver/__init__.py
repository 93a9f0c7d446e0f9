"""What runs a whole sweep: one driver a study, what it takes over, and what a person sees of it."""
