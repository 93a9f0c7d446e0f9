"""Running a plan: on Ray, or in this process."""
