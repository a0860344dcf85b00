"""What is raised inside the engine when somebody asks to stop. No torch."""


class StoppedError(Exception):
    """Somebody asked to stop in the middle of a computation; never leaves the engine."""
