"""What long work calls on its way."""

from collections.abc import Callable

Tell = Callable[[str], None]
"""Called with what is under way."""
Steps = Callable[[int, float], None]
"""Called with iteration and loss after each step."""
