"""Medians and spreads of what was measured: the report as data, from which the other forms are made."""

import statistics

from .rows import BROKER_CPU_PERCENT, LOST

SATURATED_PERCENT = 95.0


def rows(chosen_rows, outcomes, brokers, options, generator):
    """The rows of the report, each with a cell for every broker."""
    return [_row(row, outcomes, brokers, options, generator) for row in chosen_rows]


def _row(row, outcomes, brokers, options, generator):
    command = generator.command(row.run.arguments(options), "127.0.0.1", "PORT", "PID")
    command[0] = "ringmq"
    return {
        "name": row.name,
        "title": row.title,
        "unit": row.unit,
        "group": row.group,
        "saturates": row.run.saturates,
        "small_pages": row.run.small_pages,
        "command": " ".join(command),
        "cells": {broker.name: _cell(row, broker, outcomes[row.run.name, broker.name]) for broker in brokers},
    }


def _cell(row, broker, outcome):
    values = _values(row.figure, outcome.reports)
    cell = {"values": values, **spread(values)}
    missing = [broker.cannot[need] for need in sorted(row.needs) if need in broker.cannot]
    if not values:
        cell["reason"] = (missing + outcome.failures + ["not measured"])[0]
    elif outcome.failures:
        cell["failed_later"] = outcome.failures[0]
    cell["details"] = [
        {"title": title, "digits": digits, **spread(_values(figure, outcome.reports))} for title, digits, figure in row.details
    ]
    if row.run.saturates and values:
        percent = statistics.median(_values(BROKER_CPU_PERCENT, outcome.reports) or [0.0])
        cell["saturated"] = percent >= SATURATED_PERCENT
    cell["lost"] = sum(_values(LOST, outcome.reports))
    return cell


def _values(figure, reports):
    found = [figure(report) for report in reports]
    return [value for value in found if value is not None]


def spread(values):
    """The median with the smallest and the largest; nothing of nothing."""
    if not values:
        return {"median": None, "low": None, "high": None}
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def best_of(cells, names):
    """The broker of `names` with the smallest median, if any has one."""
    measured = [name for name in names if cells[name]["median"] is not None]
    return min(measured, key=lambda name: cells[name]["median"], default=None)
