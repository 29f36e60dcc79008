"""The errors of this room."""


class ConversionError(Exception):
    """A data set cannot be converted; the message says why in one line, without any value of it."""


class ConversionGivenUpError(ConversionError):
    """A conversion was given up, as somebody wanted; nothing is said of the data set."""

    def __init__(self) -> None:
        super().__init__("given up")
