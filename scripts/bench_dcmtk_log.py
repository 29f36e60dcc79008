"""The log of one of DCMTK's tools, with which it times itself to the microsecond."""

from collections.abc import Sequence
from pathlib import Path

_PATTERN = "%D{%s.%Q} %p %m%n"


def write_log_config(log: Path, level: str = "INFO", without: Sequence[str] = ()) -> Path:
    """Write a configuration for `--log-config`, beside the log; return its path.

    Args:
        log: where the tool is to log what it does.
        level: the lowest that is written.
        without: messages with one of these in them are not written, which saves the tool the time.
    """
    config = log.with_suffix(".cfg")
    filters = "".join(
        f"log4cplus.appender.file.filters.{place} = log4cplus::spi::StringMatchFilter\n"
        f"log4cplus.appender.file.filters.{place}.StringToMatch = {text}\n"
        f"log4cplus.appender.file.filters.{place}.AcceptOnMatch = false\n"
        for place, text in enumerate(without, 1)
    )
    config.write_text(
        f"log4cplus.rootLogger = {level}, file\n"
        "log4cplus.appender.file = log4cplus::FileAppender\n"
        f"log4cplus.appender.file.File = {log}\n"
        "log4cplus.appender.file.layout = log4cplus::PatternLayout\n"
        f"log4cplus.appender.file.layout.ConversionPattern = {_PATTERN}\n"
        f"{filters}",
        encoding="utf-8",
    )
    return config


def read_lines(log: Path) -> list[tuple[float, str, str]]:
    """Return time (seconds since the epoch), level and message of each line; none if no file."""
    if not log.exists():
        return []
    lines = []
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        stamp, _, rest = line.partition(" ")
        level, _, message = rest.partition(" ")
        # Seconds, milliseconds and microseconds, each after a point.
        whole, _, fraction = stamp.partition(".")
        if whole.isdigit():
            time_seconds = float(f"{whole}.{fraction.replace('.', '')}")
            lines.append((time_seconds, level, message.strip()))
    return lines
