"""The report for people."""

from .numbers import number, times
from .summary import best_of

OURS = "ringmq"
UNSATURATED, LOSSY = "†", "‡"


def render(report, plots):
    """The whole report; `plots` are (title, file) of the pictures beside it."""
    parts = [_opening(report)]
    if report["rows"]:
        parts += [_glance(report), *(f"![{title}]({file})" for title, file in plots), _details(report)]
    if report["own_settings"]:
        parts.append(_own_settings(report))
    parts += [_machine(report), _brokers(report), _commands(report)]
    return "\n\n".join(parts) + "\n"


def _opening(report):
    settings, machine = report["settings"], report["machine"]
    text = (
        "# RingMQ beside other brokers\n\n"
        f"Measured on {report['started']} in {report['took_s'] / 60:.0f} minutes ({report['mode']} mode) on {machine['cpu']}, "
        f"{machine['cpus']} CPUs, Linux {machine['kernel']}, over loopback. Each broker ran on CPU {report['cpus']['broker']} with one "
        f"worker thread where that can be set, the load generator on CPU {report['cpus']['generator']}. Medians of "
        f"{_rounds(settings['rounds'])} of {settings['seconds']:g} s in alternation, MQTT 3.1.1, payloads of 64 bytes unless stated.\n\n"
        "How to read it, and what it does not show, stands in [perf/README.md](../../README.md): read CPU time per message before "
        "messages a second, and ratios before either."
    )
    if report["interrupted"]:
        text += "\n\n**The comparison was interrupted:** some rows have fewer rounds, or none."
    return text


def _rounds(count):
    return "one round" if count == 1 else f"{count} rounds"


# --- At a glance ----------------------------------------------------------------------------------------------------


def _glance(report):
    names = list(report["brokers"])
    others = [name for name in names if name != OURS]
    compares = OURS in names and others
    lines = ["## At a glance", "Less is better in every row; the best is bold."]
    heads = ["", "unit", *names] + (["RingMQ ÷ best other"] if compares else [])
    table = [_table_line(heads), _table_line(["---"] * len(heads))]
    for row in report["rows"]:
        cells = row["cells"]
        best = best_of(cells, names)
        line = [row["title"], row["unit"], *(_cell(cells[name], name == best) for name in names)]
        if compares:
            other = best_of(cells, others)
            line.append(times(cells[OURS]["median"], cells[other]["median"]) if other else "–")
        table.append(_table_line(line))
    lines.append("\n".join(table))
    lines += _legend(report)
    return "\n\n".join(lines)


def _cell(cell, is_best):
    if cell["median"] is None:
        return "–"
    text = f"**{number(cell['median'])}**" if is_best else number(cell["median"])
    return text + (UNSATURATED if cell.get("saturated") is False else "") + (LOSSY if cell["lost"] else "")


def _legend(report):
    cells = [cell for row in report["rows"] for cell in row["cells"].values()]
    legend = []
    if any(cell.get("saturated") is False for cell in cells):
        legend.append(
            f"{UNSATURATED} The broker had less than 95 % of its CPU: the generator or the window was the limit. CPU time per delivery "
            "can be compared all the same, messages a second cannot."
        )
    if any(cell["lost"] for cell in cells):
        legend.append(f"{LOSSY} Messages were lost (see the details): what was dropped cost less than what was delivered.")
    reasons = {}
    for row in report["rows"]:
        for name, cell in row["cells"].items():
            if "reason" in cell:
                reasons.setdefault((name, cell["reason"]), []).append(row["name"])
    missing = [f"- {name}: {', '.join(rows)}: {reason}" for (name, reason), rows in reasons.items()]
    if missing:
        legend.append("Not measured (–):\n\n" + "\n".join(missing))
    return legend


# --- Details --------------------------------------------------------------------------------------------------------


def _details(report):
    return "\n\n".join(["## In detail", "Median (smallest–largest)."] + [_detail(row) for row in report["rows"]])


def _own_settings(report):
    parts = ["## RingMQ's own settings", "One build beside itself, in alternation: median (smallest–largest)."]
    for experiment in report["own_settings"]:
        parts += [f"`{experiment['setting']}`: {experiment['about']}", *(_detail(row) for row in experiment["rows"])]
    return "\n\n".join(parts)


def _detail(row):
    titles = next((cell["details"] for cell in row["cells"].values() if cell["details"]), [])
    heads = ["", row["unit"], *(detail["title"] for detail in titles), "rounds"]
    table = [_table_line(heads), _table_line(["---"] * len(heads))]
    notes = []
    for name, cell in row["cells"].items():
        if "reason" in cell:
            table.append(_table_line([name, f"– ({cell['reason']})", *("" for _ in titles), "0"]))
            continue
        if "failed_later" in cell:
            notes.append(f"{name} then failed: {cell['failed_later']}.")
        details = [_detail_number(detail) for detail in cell["details"]]
        table.append(_table_line([name, _spread(cell), *details, str(len(cell["values"]))]))
    return "\n\n".join([f"### {row['name']}: {row['title']}", "\n".join(table), *notes])


def _spread(cell):
    if len(cell["values"]) < 2:
        return number(cell["median"])
    return f"{number(cell['median'])} ({number(cell['low'])}–{number(cell['high'])})"


def _detail_number(detail):
    return "–" if detail["median"] is None else f"{detail['median']:,.{detail['digits']}f}"


# --- How it was measured --------------------------------------------------------------------------------------------


def _machine(report):
    machine, cpus = report["machine"], report["cpus"]
    stolen = f"{machine['stolen_percent']:.1f} % of the CPU time"
    kind = "virtual" if machine["virtual_machine"] else "physical"
    facts = [
        ("CPU", f"{machine['cpu']}, {machine['cpus']} CPUs ({kind} machine), governor {machine['frequency_governor'] or 'not visible'}"),
        ("CPUs used", f"broker {cpus['broker']}, generator {cpus['generator']}"),
        ("memory", f"{machine['memory_gib']} GiB, transparent huge pages: {machine['transparent_huge_pages']}"),
        ("kernel", f"Linux {machine['kernel']}"),
        ("TCP", f"{machine['congestion_control']}, {machine['queueing_discipline']}, somaxconn {machine['somaxconn']}"),
        ("TCP buffers", f"receive {machine['tcp_rmem']}, send {machine['tcp_wmem']}"),
        ("local ports", machine["local_ports"]),
        ("open files", f"soft limit {machine['nofile_soft']:,}, hard limit {machine['nofile_hard']:,}; raised to the hard one"),
        ("noise", f"load {machine['load_at_start']:.1f} at the start, {machine['load_at_end']:.1f} at the end; a hypervisor took {stolen}"),
    ]
    lines = [_table_line(["", ""]), _table_line(["---", "---"]), *(_table_line(fact) for fact in facts)]
    return "## The machine\n\n" + "\n".join(lines)


def _brokers(report):
    parts = ["## The brokers"]
    for name, broker in report["brokers"].items():
        text = f"### {name} {broker['version']}"
        if broker["note"]:
            text += f"\n\n{broker['note']}"
        if broker["command"]:
            variables = "".join(f"{key}={value} " for key, value in broker["environment"].items())
            text += f"\n\n```\n{variables}{broker['command']}\n```"
        if broker["configuration"]:
            text += f"\n\nIts configuration:\n\n```\n{broker['configuration']}\n```"
        parts.append(text)
    return "\n\n".join(parts)


def _commands(report):
    rows = [*report["rows"], *(row for experiment in report["own_settings"] for row in experiment["rows"])]
    commands = {row["command"]: [] for row in rows}
    for row in rows:
        commands[row["command"]].append(row["name"] + (" (broker without huge pages)" if row["small_pages"] else ""))
    lines = [f"# {', '.join(names)}\n{command}" for command, names in commands.items()]
    text = "## The commands\n\nA fresh broker for each, then:\n\n```\n" + "\n".join(lines) + "\n```\n\n"
    return text + f"All of it again: `{report['command']}`, at commit {report['commit']}."


def _table_line(cells):
    return "| " + " | ".join(cells) + " |"
