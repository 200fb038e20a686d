# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers, sizes and times as people read them; all pure, all filters of the templates."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

NONE = "–"
"""Stands where there is no value."""


def count(value: int | None) -> str:
    """A whole number with thin spaces between thousands."""
    return NONE if value is None else f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def rate(value: float | None) -> str:
    """Events a second: one decimal below 100."""
    if value is None:
        return NONE
    if value == 0:
        return "0"
    return f"{value:.1f}" if value < 99.95 else count(round(value))


def bits(value: float | None) -> str:
    """Bytes a second, shown as bits a second with three digits."""
    if value is None:
        return NONE
    return _scaled(value * 8, 1000, ("bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"))


def size(value: float | None) -> str:
    """Bytes, in binary units."""
    return NONE if value is None else _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def percent(value: float | None) -> str:
    """A part of one as per cent, whole unless it is small."""
    if value is None:
        return NONE
    whole = value * 100
    return f"{whole:.0f} %" if whole >= 9.95 or whole == 0 else f"{whole:.1f} %"


def duration(seconds: float | None) -> str:
    """A span of time in one or two coarse units, so that it does not tick."""
    if seconds is None:
        return NONE
    minutes = int(max(seconds, 0) // 60)
    if minutes < 1:
        return "< 1 min"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if hours < 3 and minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if days < 3 and hours else f"{days} d"


def ago(moment: datetime | None, now: datetime) -> str:
    """How long ago `moment` was, at `now`."""
    return NONE if moment is None else duration((now - moment).total_seconds())


def moment(value: datetime | None) -> str:
    """A date and time, in UTC."""
    return NONE if value is None else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def milliseconds(value: float | None) -> str:
    """A latency in milliseconds."""
    if value is None:
        return NONE
    return f"{value:.1f} ms" if value < 99.95 else f"{value:.0f} ms"


def address_port(address: str, port: int | None) -> str:
    """An address with its port, IPv6 in brackets; the address alone where there is no port."""
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    index = 0
    while value >= step * 0.9995 and index < len(units) - 1:
        value /= step
        index += 1
    if index == 0:
        return f"{value:.0f} {units[0]}"
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {units[index]}"


FILTERS: Mapping[str, Callable[..., str]] = {
    "count": count,
    "rate": rate,
    "bits": bits,
    "size": size,
    "percent": percent,
    "duration": duration,
    "ago": ago,
    "moment": moment,
    "milliseconds": milliseconds,
    "address_port": address_port,
}
