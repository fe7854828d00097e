"""Reads a plan from a tariff's description, such as "2 CPU, 4GB RAM, 50GB SSD"."""

from __future__ import annotations

import re
from dataclasses import dataclass

_READ_AT_MOST = 500  # characters
_SIZE = r"(?<![\d.,])(\d{1,6}(?:[.,]\d{1,3})?)\s*(MB|MiB|GB|GiB|TB|TiB|МБ|ГБ|ТБ)\s*"
_CPU = re.compile(r"(?<![\d.,])(\d{1,4})\s*x?\s*(?:v?CPU|vCores?|cores?|ядр)", re.IGNORECASE)
_RAM = re.compile(_SIZE + r"(?:RAM|DDR\d?|memory|ОЗУ)", re.IGNORECASE)
_DISK = re.compile(_SIZE + r"(?:NVMe|SSD|HDD|disk|диск)", re.IGNORECASE)
_MEGABYTES = {"M": 1, "G": 1024, "T": 1024 * 1024, "М": 1, "Г": 1024, "Т": 1024 * 1024}
_RAM_MIN_MB = 128


@dataclass(frozen=True, slots=True)
class Plan:
    """What a tariff promises. ``None``: the text does not say it, or says it twice."""

    cpu: int | None = None
    ram_mb: int | None = None
    disk_gb: int | None = None


def plan_of(description: str) -> Plan:
    """Read cores, RAM and disk. Text that is not understood leaves the amount unknown."""
    text = description[:_READ_AT_MOST]
    cores = _CPU.findall(text)
    ram_mb = _megabytes(_RAM.findall(text))
    disk_mb = _megabytes(_DISK.findall(text))
    return Plan(
        cpu=int(cores[0]) if len(cores) == 1 and int(cores[0]) > 0 else None,
        ram_mb=ram_mb if ram_mb is not None and ram_mb >= _RAM_MIN_MB else None,
        disk_gb=disk_mb // 1024 if disk_mb is not None and disk_mb >= 1024 else None,
    )


def _megabytes(found: list[tuple[str, str]]) -> int | None:
    if len(found) != 1:
        return None
    number, unit = found[0]
    return round(float(number.replace(",", ".")) * _MEGABYTES[unit[0].upper()])
