"""From slices to medians, ratios, a table and a JSON document with the facts of the machine."""

import json
import os
import platform
import re
import subprocess
from pathlib import Path
from statistics import median

from peers import find_binary, origin_kind, sha256_of, version_of

RATIOS = ("cpu_us", "rps", "mib_per_s", "p50_us", "p99_us", "rss_mib")
MEDIANS = (*RATIOS, "busy", "load_busy", "others_busy", "load_others_busy")
NOISY_SHARE = 0.05


# --- arithmetic ------------------------------------------------------------------------------


def spread(values):
    return {"median": median(values), "min": min(values), "max": max(values)}


def ratios(rounds, peer, base):
    """For each figure the spread over rounds of peer ÷ base, each quotient taken within one round."""
    result = {}
    for figure in RATIOS:
        pairs = [(one[peer][figure], one[base][figure]) for one in rounds]
        quotients = [value / under for value, under in pairs if under > 0]
        if quotients:
            result[figure] = spread(quotients)
    return result


def summarise(rounds):
    """Medians of each peer, and each peer against every other. A round maps a peer to its figures."""
    names = list(rounds[0])
    return {
        "medians": {
            name: {key: median(one[name][key] for one in rounds) for key in MEDIANS} for name in names
        },
        "ratios": {
            name: {base: ratios(rounds, name, base) for base in names if base != name} for name in names
        },
    }


def errors_of(cases):
    """Every error of every slice, as lines to be read aloud."""
    return [
        f"{case['name']}, round {number}, {peer}: "
        + ", ".join(f"{count} × {kind}" for kind, count in figures["errors"].items())
        for case in cases
        for number, one in enumerate(case["rounds"], start=1)
        for peer, figures in one.items()
        if figures["errors"]
    ]


# --- the table -------------------------------------------------------------------------------


def spread_text(value):
    return f"{value['median']:.3f} [{value['min']:.3f}–{value['max']:.3f}]" if value else "–"


def align(rows):
    """Columns as wide as their widest cell: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells[1:]]).rstrip())
    return "\n".join(lines)


def peer_row(name, case, base):
    value = case["medians"][name]
    against = case["ratios"][name].get(base, {})
    return [
        name,
        f"{value['cpu_us']:.1f}",
        "1" if name == base else spread_text(against.get("cpu_us")),
        f"{value['rps']:.0f}",
        "1" if name == base else spread_text(against.get("rps")),
        f"{value['mib_per_s']:.1f}",
        f"{value['p50_us']:.0f}",
        f"{value['p99_us']:.0f}",
        f"{value['rss_mib']:.1f}",
        f"{value['busy']:.0%}",
        f"{value['load_busy']:.0%}",
        f"{value['others_busy']:.0%} {value['load_others_busy']:.0%}",
    ]


def case_table(case, base):
    against = f"÷ {base} [min–max]"
    head = ["peer", "CPU µs/req", against, "req/s", against, "MiB/s"]
    head += ["p50 µs", "p99 µs", "RSS MiB", "busy", "load", "others"]
    title = f"{case['name']}: {case['body_bytes']} bytes, {case['connections']} connections"
    rows = [peer_row(name, case, base) for name in case["medians"]]
    return f"{title}\n{align([head, *rows])}"


def gateway_table(case):
    """The gateway against each other peer: the figures the bars are set for."""
    rows = [["gateway ÷", "CPU a request", "requests/s", "p99", "RSS"]]
    for base, value in case["ratios"].get("gateway", {}).items():
        cells = [spread_text(value.get(key)) for key in ("cpu_us", "rps", "p99_us", "rss_mib")]
        rows.append([base, *cells])
    return align(rows) if len(rows) > 1 else ""


def remarks(case):
    """What a reader must know before believing the table."""
    lines = []
    for name, value in case["medians"].items():
        if value["load_busy"] > 0.95 and value["busy"] < 0.9:
            lines.append(f"{name}: the load generator was the limit; believe its CPU, not its req/s")
        if value["others_busy"] > NOISY_SHARE:
            lines.append(f"{name}: other processes held {value['others_busy']:.0%} of its core")
        if value["load_others_busy"] > NOISY_SHARE:
            lines.append(f"{name}: other processes held {value['load_others_busy']:.0%} of the load core")
    return "".join(f"\n  note  {line}" for line in lines)


def table(document):
    parts = []
    for case in document["cases"]:
        parts.append(case_table(case, document["base"]) + remarks(case))
        parts.append(gateway_table(case))
    parts.extend(f"MISSING  {name}: not found, left out" for name in document["missing"])
    parts.extend(f"ERROR  {line}" for line in document["errors"])
    return "\n\n".join(part for part in parts if part)


# --- facts -----------------------------------------------------------------------------------


def cpu_model():
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    return model[1] if model else platform.machine()


def git(*arguments):
    here = Path(__file__).parent
    done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def wrk_version():
    done = subprocess.run([find_binary("wrk"), "-v"], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()  # wrk ends with 1 here
    return lines[0] if lines else "unknown"


def machine_facts():
    return {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_average": os.getloadavg(),
        "python": platform.python_version(),
        "wrk": wrk_version(),
        "origin": version_of(origin_kind()),
    }


def revision_facts():
    return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain"))}


def peer_facts(kind):
    return {"version": version_of(kind), "sha256": sha256_of(kind.binary)}


def write_json(document, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
