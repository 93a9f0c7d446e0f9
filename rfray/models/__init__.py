"""Networks as plain data, their arithmetic, and their torch modules."""
