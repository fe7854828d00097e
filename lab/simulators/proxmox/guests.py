"""A guest as a value, and its configuration in Proxmox. Pure."""

import secrets
from dataclasses import dataclass
from typing import Any, Literal

GuestType = Literal["qemu", "lxc"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """One virtual machine or container. `memory_mb` in MiB, `disk_gb` in GiB.

    `status` is the status in the bulk list of a healthy cluster: running or stopped, for QEMU also paused, io-error and
    so on. `uuid` is None for containers. `mac` is empty without a network card, and
    `ip_address` where DHCP gives it.
    """

    vmid: int
    node: str
    type: GuestType
    name: str
    status: str
    uuid: str | None
    mac: str
    cores: int
    memory_mb: int
    disk_gb: int
    tags: str = ""
    lock: str | None = None
    template: bool = False
    ip_address: str = ""


def random_mac() -> str:
    """A MAC address from the range that Proxmox VE hands out."""
    return "BC:24:11:" + ":".join(f"{byte:02X}" for byte in secrets.token_bytes(3))


def config_of(guest: Guest) -> dict[str, Any]:
    """The keys of the guest's configuration file that hold its plan and identity."""
    volume = f"local-lvm:vm-{guest.vmid}-disk-0,size={guest.disk_gb}G"
    config: dict[str, Any]
    if guest.type == "lxc":
        config = {
            "hostname": guest.name,
            "cores": guest.cores,
            "memory": guest.memory_mb,
            "rootfs": volume,
        }
        if guest.mac:
            config["net0"] = f"name=eth0,bridge=vmbr0,hwaddr={guest.mac},type=veth"
            if guest.ip_address:
                config["net0"] += f",ip={guest.ip_address}/24"
    else:
        config = {
            "name": guest.name,
            "cores": guest.cores,
            "sockets": 1,
            "memory": str(guest.memory_mb),
            "scsi0": volume,
            "net0": f"virtio={guest.mac},bridge=vmbr0",
            "smbios1": f"uuid={guest.uuid}",
        }
        if guest.ip_address:
            config["ipconfig0"] = f"ip={guest.ip_address}/24"
    if guest.tags:
        config["tags"] = guest.tags
    if guest.lock:
        config["lock"] = guest.lock
    if guest.template:
        config["template"] = 1
    return config


def power_of(status: str) -> str:
    """running if the guest has a process, whatever QEMU calls its state; else stopped."""
    return "stopped" if status == "stopped" else "running"
