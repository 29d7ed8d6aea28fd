"""Focalpoint Exchange: signed and sealed exchange of cases between national focal points."""

__version__ = "0.1.0"
