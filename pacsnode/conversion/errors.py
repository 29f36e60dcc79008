"""The one error of this room."""


class ConversionError(Exception):
    """A data set cannot be converted; the message says why in one line, without any value of it."""
