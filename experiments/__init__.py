"""Runs the experiments of the library: entry points, their settings and their reports."""
