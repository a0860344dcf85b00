"""The engine room: runs a model along a video."""
