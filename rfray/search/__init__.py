"""Searches of settings: search spaces, and how samples are drawn."""
