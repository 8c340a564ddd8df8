"""`quire new-plugin KIND NAME`: a plugin of one's own as a distribution that works as it is written."""

from __future__ import annotations

import argparse
import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from quire.errors import UserError
from quire.kinds import KINDS
from quire.registry import Registry, load_registry, near_miss


def main(arguments: Sequence[str]) -> None:
    """Write the distribution and say what comes next. Raises UserError for a name that cannot be used."""
    parser = argparse.ArgumentParser(
        prog="quire new-plugin", description="Write a working plugin: its options, its tests, its packaging."
    )
    parser.add_argument("kind", metavar="KIND", help=", ".join(template_kinds()))
    parser.add_argument("name", metavar="NAME", help="what it is called on the command line: KIND=NAME")
    parser.add_argument("--directory", type=Path, metavar="DIR", help="where to write (default: quire-NAME)")
    options = parser.parse_args(arguments)
    plugin = NewDistribution(kind=options.kind, name=options.name)
    plugin.check(load_registry())
    directory = options.directory or Path(plugin.distribution)
    files = plugin.write(directory)
    path = directory if directory.is_absolute() else f"./{directory}"  # else pip takes it for a name
    print(f"wrote {path}:")
    for file in files:
        print(f"  {file}")
    print(
        f"next:\n"
        f"  pip install -e {path}      (without a network: --no-deps --no-build-isolation as well)\n"
        f"  pytest {path}\n"
        f"  {plugin.example}"
    )


def template_kinds() -> list[str]:
    """Kinds for which there is a template, in the order of the table of kinds."""
    names = {file.name for file in resources.files("quire.cli.templates").iterdir()}
    return [kind.name for kind in KINDS if f"{kind.name}.py" in names]


@dataclass(frozen=True, kw_only=True, slots=True)
class NewDistribution:
    """The plugin to write and the names that follow from its own."""

    kind: str
    name: str

    @property
    def package(self) -> str:
        return f"quire_{self.name}"

    @property
    def distribution(self) -> str:
        return self.package.replace("_", "-")

    @property
    def class_name(self) -> str:
        return "".join(word.capitalize() for word in f"{self.name}_{self.kind}".split("_"))

    @property
    def example(self) -> str:
        """A command that uses it."""
        chosen = {kind.name for kind in KINDS if kind.default is not None}
        return f"quire {self.kind}={self.name}" if self.kind in chosen else f"quire plugins {self.kind}"

    def check(self, registry: Registry) -> None:
        """Raise UserError if the kind has no template or the name cannot be used."""
        kinds = template_kinds()
        if self.kind not in kinds:
            hint = near_miss(self.kind, kinds)
            raise UserError(f"KIND={self.kind!r}{hint}: must be one of {', '.join(kinds)}")
        if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", self.name) or keyword.iskeyword(self.name):
            raise UserError(
                f"NAME={self.name!r}: must be words of a-z and 0-9 joined by single underscores, such as"
                f" shortest_first, and no word of Python's own"
            )
        if self.name in registry.names(self.kind):
            owner = registry.info(self.kind, self.name).distribution
            raise UserError(f"NAME={self.name!r}: {owner} has a {self.kind} of this name already")
        if find_spec(self.package) is not None:
            raise UserError(f"NAME={self.name!r}: a package {self.package} is installed already")

    def write(self, directory: Path) -> list[str]:
        """Write every file under `directory`, which must be empty or not exist; returns their paths in it."""
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise UserError(f"{directory}: exists and is not an empty directory")
        files = {
            "pyproject.toml": self._render("pyproject.template"),
            "README.md": self._render("README.template"),
            f"{self.package}/__init__.py": "",
            f"{self.package}/{self.kind}.py": self._render(f"{self.kind}.py"),
            f"tests/test_{self.name}.py": self._render(f"test_{self.kind}.py"),
        }
        for file, text in files.items():
            path = directory / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return list(files)

    def _render(self, template: str) -> str:
        text = resources.files("quire.cli.templates").joinpath(template).read_text(encoding="utf-8")
        for placeholder, value in {  # in this order: some contain others
            "new_plugin_kind": self.kind,
            "new_plugin_example": self.example,
            "quire.cli.templates": self.package,
            "quire-new-plugin": self.distribution,
            "NewPlugin": self.class_name,
            "new_plugin": self.name,
        }.items():
            text = text.replace(placeholder, value)
        return text
