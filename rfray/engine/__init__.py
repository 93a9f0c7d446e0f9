"""Runs a plan on Ray or in this process."""
