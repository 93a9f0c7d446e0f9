"""What a search of settings draws from, and how its samples are drawn."""
