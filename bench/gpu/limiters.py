# SPDX-License-Identifier: Apache-2.0
"""Limiters as data: how a command is put under one. limiters.json has the known ones, `--limiters-file` adds others.

A limiter is an object with
  title, about     for people
  like             the name of another one, whose fields hold where this one has none (variables are merged)
  command          words put before the worker's command
  preload          a library for LD_PRELOAD
  variables        for the environment of the worker (and its preload) alone
  change           a command that changes a running tenant's compute quota to {compute}
  needs            {placeholder: where it comes from}: without a value, the limiter can't be used
  proof            "memory" (the default): a row counts only if the worker saw its memory limit; "share": the limiter has none,
                   and a row counts only if the work that was done shows it
Words may hold {placeholders}: name, memory_mib, compute, compute_limit, policy, priority, gpu (UUID), state (a folder of the
tenant's own), python, here (this folder), and those of `needs`. A list inside `command`, and a variable, is left out if a
placeholder in it has no value.
"""
import json
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
FIELDS = {"title", "about", "like", "command", "preload", "variables", "change", "needs", "proof"}


class BadLimiter(Exception):
    """A limiter that can't be used, with the reason in words."""


def fill(text, values):
    """The text with its placeholders replaced; None if one has no value."""
    names = PLACEHOLDER.findall(text)
    if any(values.get(name) is None for name in names):
        return None
    return PLACEHOLDER.sub(lambda match: str(values[match[1]]), text)


class Limiter:
    def __init__(self, name, fields, values):
        self.name = name
        self.fields = fields
        self.values = {"python": sys.executable, "here": HERE, **values}
        self.title = fields.get("title", name)

    @property
    def limits(self):
        return self.name != "none"

    @property
    def proof(self):
        return self.fields.get("proof", "memory")

    @property
    def can_change(self):
        return "change" in self.fields

    def missing(self):
        """Why it can't be used here; empty if it can."""
        for name, where in self.fields.get("needs", {}).items():
            value = self.values.get(name)
            if value is None:
                return f"it needs {where}"
            if not os.path.exists(value):
                return f"there is no {value}"
        return ""

    def _words(self, template, values):
        words = []
        for part in template:
            group = [fill(word, values) for word in (part if isinstance(part, list) else [part])]
            if None not in group:
                words += group
            elif not isinstance(part, list):
                raise BadLimiter(f"limiter {self.name}: no value for {part}")
        return words

    def wrap(self, command, quota, **values):
        """The command that runs `command` as a tenant with this quota (a dict of compute, compute_limit, policy, priority)."""
        values = {**self.values, **quota, **values}
        environment = {name: fill(text, values) for name, text in self.fields.get("variables", {}).items()}
        if "preload" in self.fields:
            environment["LD_PRELOAD"] = fill(self.fields["preload"], values)
        settings = [f"{name}={value}" for name, value in environment.items() if value is not None]
        return self._words(self.fields.get("command", []), values) + (["env", *settings] if settings else []) + command

    def change(self, quota, **values):
        return self._words(self.fields["change"], {**self.values, **quota, **values})


def read(paths):
    """Limiters' fields by name, from JSON files of which later ones win."""
    table = {}
    for path in paths:
        try:
            with open(path) as file:
                table.update(json.load(file))
        except (OSError, ValueError) as error:
            raise BadLimiter(f"{path}: {error}") from error
    for name, fields in table.items():
        unknown = set(fields) - FIELDS
        if unknown:
            raise BadLimiter(f"limiter {name}: no field is called {', '.join(sorted(unknown))}; there are {', '.join(sorted(FIELDS))}")
    return {name: resolve(name, table) for name in table}


def resolve(name, table, seen=()):
    fields = table[name]
    base = fields.get("like")
    if base is None:
        return fields
    if base not in table or base in seen:
        raise BadLimiter(f"limiter {name}: it is like {base}, which is not there or like it in turn")
    inherited = resolve(base, table, (*seen, name))
    return {**inherited, **fields, "variables": {**inherited.get("variables", {}), **fields.get("variables", {})}}
