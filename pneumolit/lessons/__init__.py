"""Lessons: a mistake and its remedy side by side on phantoms, with the number that the mistake costs."""
