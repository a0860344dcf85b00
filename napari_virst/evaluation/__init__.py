"""Measures masks against masks."""
