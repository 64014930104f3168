"""One slice: load for some seconds against one peer, and what it cost."""

import os
import re
import resource
import subprocess
import time
from dataclasses import dataclass


class BadOutput(Exception):
    """A tool printed something this file does not understand."""


@dataclass(frozen=True)
class Wrk:
    """What wrk reported: times in microseconds, errors by kind (only those above zero)."""

    requests: int
    seconds: float
    bytes_read: float
    p50_us: float
    p99_us: float
    errors: dict


@dataclass(frozen=True)
class Process:
    """One row of the process table: CPU seconds with those of reaped children, resident bytes."""

    pid: int
    parent: int
    cpu_seconds: float
    rss_bytes: int


@dataclass(frozen=True)
class Usage:
    """CPU seconds and resident bytes of a process and all its descendants."""

    cpu_seconds: float
    rss_bytes: int


@dataclass(frozen=True)
class Cores:
    """Which core runs the peers, and which runs the load generator and the origin."""

    proxy: int
    load: int


# --- wrk -------------------------------------------------------------------------------------


def parse_quantity(text, units):
    """A number with a unit suffix, such as `1.21ms`, times the factor of the unit."""
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]+)", text)
    if not match or match[2] not in units:
        raise BadOutput(f"not a quantity: {text!r}")
    return float(match[1]) * units[match[2]]


def parse_time_us(text):
    return parse_quantity(text, {"us": 1, "ms": 1e3, "s": 1e6, "m": 60e6, "h": 3600e6})


def parse_bytes(text):
    return parse_quantity(text, {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40})


def parse_wrk_errors(text):
    """The kinds of errors wrk counted; it prints nothing about a kind when no line is needed."""
    errors = {}
    sockets = re.search(r"Socket errors: (.*)", text)
    for part in sockets[1].split(",") if sockets else []:
        kind, count = part.split()
        errors[kind] = int(count)
    status = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    if status:
        errors["status"] = int(status[1])
    return {kind: count for kind, count in errors.items() if count}


def parse_wrk(text):
    """The report of `wrk --latency`."""
    total = re.search(r"(\d+) requests in (\S+), (\S+) read", text)
    quantiles = dict(re.findall(r"^\s+(\d+)%\s+(\S+)$", text, re.MULTILINE))
    if not total or not {"50", "99"} <= quantiles.keys():
        raise BadOutput(f"not a report of wrk:\n{text}")
    return Wrk(
        requests=int(total[1]),
        seconds=parse_time_us(total[2]) / 1e6,
        bytes_read=parse_bytes(total[3]),
        p50_us=parse_time_us(quantiles["50"]),
        p99_us=parse_time_us(quantiles["99"]),
        errors=parse_wrk_errors(text),
    )


def run_wrk(url, connections, seconds):
    command = ["wrk", "--latency", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BadOutput(f"wrk ended with {done.returncode}: {done.stdout}{done.stderr}")
    return parse_wrk(done.stdout)


# --- processes -------------------------------------------------------------------------------


def parse_stat(text, ticks_per_second, page_bytes):
    """A line of /proc/PID/stat (proc(5)); the name in parentheses may itself hold any character."""
    head, _, tail = text.rpartition(")")
    fields = tail.split()  # fields[0] is field 3 of the manual page
    ticks = sum(int(fields[index]) for index in range(11, 15))  # utime stime cutime cstime
    return Process(
        pid=int(head.split(" ", 1)[0]),
        parent=int(fields[1]),
        cpu_seconds=ticks / ticks_per_second,
        rss_bytes=int(fields[21]) * page_bytes,
    )


def process_table():
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    table = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                table.append(parse_stat(file.read(), ticks, page))
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended between the listing and the reading
    return table


def tree(root, table):
    """The process `root` and all its descendants. A process's own row already sums its threads."""
    found = [row for row in table if row.pid == root]
    for process in found:
        found.extend(row for row in table if row.parent == process.pid)
    return found


def usage(root):
    rows = tree(root, process_table())
    if not rows:
        raise BadOutput(f"process {root} is gone")
    return Usage(sum(row.cpu_seconds for row in rows), sum(row.rss_bytes for row in rows))


def parse_core_seconds(text, core, ticks_per_second):
    """Time processes ran on one core, stolen time included, from /proc/stat; interrupts are not."""
    row = re.search(rf"^cpu{core} (.*)$", text, re.MULTILINE)
    if not row:
        raise BadOutput(f"no core {core} in /proc/stat")
    user, nice, system, _idle, _wait, _irq, _softirq, steal = map(int, row[1].split()[:8])
    return (user + nice + system + steal) / ticks_per_second


def core_seconds(core):
    with open("/proc/stat", encoding="utf-8") as file:
        return parse_core_seconds(file.read(), core, os.sysconf("SC_CLK_TCK"))


def children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- a slice ---------------------------------------------------------------------------------


def clocks(peer, origin, cores):
    """All CPU clocks of a slice, in seconds."""
    return {
        "wall": time.monotonic(),
        "peer": usage(peer.pid).cpu_seconds,
        "load": usage(origin.pid).cpu_seconds + children_seconds(),
        "proxy_core": core_seconds(cores.proxy),
        "load_core": core_seconds(cores.load),
    }


def measure(peer, origin, case, seconds, cores):
    """Load one peer once."""
    before = clocks(peer, origin, cores)
    report = run_wrk(f"http://127.0.0.1:{peer.port}{case.path}", case.connections, seconds)
    after = clocks(peer, origin, cores)
    spent = {name: after[name] - before[name] for name in before}
    return figures(report, spent, usage(peer.pid).rss_bytes)


def figures(report, spent, rss_bytes):
    """The figures of a slice. Shares are of one core. No request at all is an error of its own."""
    errors = dict(report.errors)
    if report.requests == 0:
        errors["no_request_answered"] = 1
    wall = spent["wall"]
    return {
        "requests": report.requests,
        "errors": errors,
        "rps": report.requests / report.seconds,
        "mib_per_s": report.bytes_read / 2**20 / report.seconds,
        "p50_us": report.p50_us,
        "p99_us": report.p99_us,
        "cpu_us": spent["peer"] * 1e6 / max(report.requests, 1),
        "rss_mib": rss_bytes / 2**20,
        "busy": spent["peer"] / wall,
        "load_busy": spent["load"] / wall,
        "others_busy": max(spent["proxy_core"] - spent["peer"], 0.0) / wall,
        "load_others_busy": max(spent["load_core"] - spent["load"], 0.0) / wall,
    }
