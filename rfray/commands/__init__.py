"""Commands other than sweep: plan reports, status, forecasts, cleaning, checks."""
