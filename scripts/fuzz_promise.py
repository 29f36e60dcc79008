"""What a target of the fuzzer raises; whatever else it raises is a finding as well."""


class PromiseBrokenError(AssertionError):
    """An input made the program do what it says it never does; the message says what."""


def demand(is_kept: bool, promise: str) -> None:  # noqa: FBT001 - reads like an assertion
    """Raise PromiseBrokenError unless a promise is kept."""
    if not is_kept:
        raise PromiseBrokenError(promise)
