"""What the machine is, as it stands in the report."""

import os
import platform
import re
import resource

from .errors import CompareError


def describe():
    """Everything about the machine that figures depend on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "cpus_allowed": sorted(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "congestion_control": _read("/proc/sys/net/ipv4/tcp_congestion_control"),
        "queueing_discipline": _read("/proc/sys/net/core/default_qdisc"),
        "somaxconn": _read("/proc/sys/net/core/somaxconn"),
        "tcp_rmem": _read("/proc/sys/net/ipv4/tcp_rmem"),
        "tcp_wmem": _read("/proc/sys/net/ipv4/tcp_wmem"),
        "local_ports": _read("/proc/sys/net/ipv4/ip_local_port_range"),
        "nofile_soft": soft,
        "nofile_hard": hard,
        "transparent_huge_pages": _chosen(_read("/sys/kernel/mm/transparent_hugepage/enabled")),
        "frequency_governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "virtual_machine": "hypervisor" in _read("/proc/cpuinfo"),
        "load_at_start": os.getloadavg()[0],
    }


def cpu_ticks():
    """Ticks of all CPUs so far: those that a hypervisor gave to others, and all."""
    first = _read("/proc/stat").split("cpu0")[0].split()[1:]
    ticks = [int(tick) for tick in first]
    # Guests are counted within user and nice.
    return (ticks[7] if len(ticks) > 7 else 0), sum(ticks[:8])


def name(machine):
    """A name for a directory that tells what the machine is and not whose."""
    text = f"{machine['cpu']} {machine['cpus']} cpus"
    text = re.sub(r"\((r|tm|c)\)|\bprocessor\b|\bcpu\b|@.*ghz", " ", text, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def choose_cpus(wanted):
    """The CPUs of broker and generator: as wanted, else the first and one that is no sibling thread of it."""
    allowed = sorted(os.sched_getaffinity(0))
    if wanted:
        if any(cpu not in allowed for cpu in wanted) or wanted[0] == wanted[1]:
            raise CompareError(f"--cpus wants two different CPUs of {allowed}")
        return wanted
    if len(allowed) < 2:
        raise CompareError("the broker and the load generator need a CPU each; this process may use one only")
    siblings = _cpu_list(_read(f"/sys/devices/system/cpu/cpu{allowed[0]}/topology/thread_siblings_list"))
    apart = [cpu for cpu in allowed[1:] if cpu not in siblings]
    return allowed[0], (apart or allowed[1:])[0]


def raise_descriptor_limit():
    """Raises the limit on open files as far as it goes, for this process and its children; returns it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def _cpu_model():
    model = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return model.group(1).strip() if model else platform.machine()


def _chosen(text):
    chosen = re.search(r"\[(\w+)\]", text)
    return chosen.group(1) if chosen else text


def _cpu_list(text):
    """The CPUs of a list such as `0-3,8`."""
    cpus = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


def _read(path):
    """What a file of the kernel says; empty where this kernel has none."""
    try:
        with open(path, encoding="utf-8") as file:
            return " ".join(file.read().split()) if not path.endswith("cpuinfo") else file.read()
    except OSError:
        return ""
