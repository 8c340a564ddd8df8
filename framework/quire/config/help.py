"""The text of `--help`: what can be chosen, generated from the registered plugins."""

from __future__ import annotations

import textwrap

from quire.registry import Registry

_USAGE = """\
quire runs language models; every policy in it is a plugin.

  python run.py [GROUP=PLUGIN ...] [GROUP.OPTION=VALUE ...] [KEY=VALUE ...]
  python run.py -m seed=1,2 scheduler=fcfs,sarathi     every combination, one after another
  quire plugins | quire new-plugin                     list plugins; write one. `quire` is the same program
  quire resume multirun/DATE/TIME                      run what a sweep lacks: missing, failed, killed cells
  quire report DIR                                     compare recorded runs: a table, report.html, plots

Groups: one plugin each, * is what runs if none is named
"""

_REST = """
Keys
  model       demo, a directory in Hugging Face format, or a hub id
  device      auto, cpu, cuda
  dtype       auto, float32, bfloat16, float16
  seed        everything random derives from it
  engine.*    budgets of a step, size of the KV memory, threads
  embedding.* pooling, length and batches of task=embed
  server.*    address, limits and keys of task=serve
  slo.*       latencies to hold: of a request (goodput), and of a run (task=capacity)

Flags
  --cfg job            print the configuration instead of running it (-p scheduler: a part of it)
  --info defaults      print how it is composed
  -cd DIR              look for configurations of your own in DIR too
  -sc install=bash     print what makes bash complete groups and keys (eval it); also zsh, fish
  --hydra-help         all other flags

This configuration (choose a plugin before --help to see its options)

"""

_WIDTH = 110


def help_template(registry: Registry) -> str:
    """A template for Hydra's help, in which `$CONFIG` stands for the composed configuration."""
    kinds = [kind for kind in registry.kinds.values() if kind.default is not None]
    left = max(len(kind.name) for kind in kinds) + 4
    middle = max(len(kind.summary) for kind in kinds) + 2
    lines: list[str] = []
    for kind in kinds:
        names = [name + "*" * (name == kind.default) for name in registry.available(kind.name)]
        lines += textwrap.wrap(
            " ".join(names) or "none is installed",
            width=_WIDTH,
            initial_indent=f"  {kind.name}".ljust(left) + kind.summary.ljust(middle),
            subsequent_indent=" " * (left + middle),
            break_long_words=False,
        )
    text = _USAGE + "\n".join(lines) + "\n" + _REST
    return text.replace("$", "$$") + "$CONFIG\n"
