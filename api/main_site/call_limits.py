"""What a sync call may say: the words, lengths and ranges. The checks and the OpenAPI document are made from them."""

from __future__ import annotations

from typing import Literal, NamedTuple

MAX_ID = 2**63 - 1
MAX_INT = 2**31 - 1

Status = Literal["creating", "running", "stopped", "suspended", "error"]
Hypervisor = Literal["proxmox", "vmware", "hyperv", "kvm", "xen"]
GuestType = Literal["qemu", "lxc"]


class Range(NamedTuple):
    """Integers from ``low`` to ``high``, both included."""

    low: int
    high: int


ID = Range(1, MAX_ID)
CORES = Range(1, 1024)
RAM_MB = Range(128, MAX_INT)
DISK_GB = Range(1, MAX_INT)
VMID = Range(100, 999_999_999)
NUMERIC_ORDER_ID = Range(0, MAX_ID)

TEXT_LONGEST = 255
ORDER_ID_LONGEST = 64
"""Characters, after white space at both ends is cut off."""

CLUSTER = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"
NODE = r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}"
