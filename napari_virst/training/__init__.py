"""Procedural scenes with language, and the loop that learns from them."""
