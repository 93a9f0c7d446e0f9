"""What a person asks for beside a sweep: plans in words, status, forecasts, cleaning, checks."""
