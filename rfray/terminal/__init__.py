"""Terminals, notebooks, Control-C, and the progress of long steps."""
