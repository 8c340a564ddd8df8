"""A run of the CPU comparison that is cut off: what is kept, what is measured again, what is refused."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from quire.errors import UserError

STUDY = Path(__file__).parents[2] / "experiments" / "cpu_speed"
HEAD = {
    "command": "python x.py --rounds 3",
    "options": {"rounds": 3, "arms": None},
    "commit": "0123456789abcdef",
    "uncommitted_changes": None,
    "machine": {"cpu": "a CPU", "cores": 2},
    "versions": {"a": {"torch": "2.13"}},
}
TURNS = [(1, "a"), (1, "b"), (1, "c"), (2, "c"), (2, "b"), (2, "a"), (3, "a"), (3, "b"), (3, "c")]


@pytest.fixture
def study(monkeypatch):
    """Imports a module of the study. They are forgotten afterwards: their names are everyday words, which
    other experiments have as well.
    """
    monkeypatch.syspath_prepend(str(STUDY))
    names = {path.stem for path in STUDY.glob("*.py")}
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def journal_of(study, tmp_path):
    """Opens the journal of a test, with the head above or another."""

    def open_one(head=HEAD, *, fresh=False):
        return study("journal").Journal(tmp_path / "outputs" / "j.jsonl", head=head, fresh=fresh)

    return open_one


class Killed(BaseException):
    """The end of a process, as far as one test can have it."""


class Arms:
    """Measures with numbers that never come twice, and dies at the call after so many."""

    def __init__(self, *, first: float = 0.1, calls: int | None = None) -> None:
        self.measured: list[str] = []
        self._first = first
        self._calls = calls

    def __call__(self, name: str) -> dict:
        if len(self.measured) == self._calls:
            raise Killed
        self.measured.append(name)
        return {"speed": self._first + len(self.measured) / 3}


def run(journal, arms: Arms) -> list[tuple[int, str, dict]]:
    return list(journal.turns(["a", "b", "c"], rounds=3, measure=arms))


@pytest.mark.parametrize("cut", range(len(TURNS) + 1))
def test_only_what_is_missing_is_measured(journal_of, cut):
    whole, first = run(journal_of(), Arms()), Arms(calls=cut)
    assert [(turn, name) for turn, name, _ in whole] == TURNS
    journal = journal_of(fresh=True)
    if cut < len(TURNS):
        with pytest.raises(Killed):
            run(journal, first)
    else:
        run(journal, first)
    assert first.measured == [name for _, name in TURNS[:cut]]

    again, journal = Arms(first=50.0), journal_of()
    assert len(journal) == cut
    found = run(journal, again)
    assert [(turn, name) for turn, name, _ in found] == TURNS
    assert again.measured == [name for _, name in TURNS[cut:]]
    assert found[:cut] == whole[:cut]
    assert all(result["speed"] > 50 for _, _, result in found[cut:])


def test_a_result_is_in_the_file_before_it_is_given_out(journal_of):
    journal = journal_of()
    for count, (turn, name, result) in enumerate(journal.turns("ab", rounds=2, measure=Arms()), 1):
        head, *lines = map(json.loads, journal.path.read_text().splitlines())
        assert head == HEAD
        assert len(lines) == count
        assert lines[-1] == {"round": turn, "arm": name, "result": result}


def test_half_a_line_is_dropped_and_measured_again(journal_of):
    before = run(journal_of(), Arms())
    path = journal_of().path
    whole = path.read_bytes()
    begins = whole[:-1].rfind(b"\n") + 1
    for end in (begins, begins + 1, len(whole) - 1):  # nothing of the last line, a byte, all but its end
        path.write_bytes(whole[:end])
        again = Arms(first=50.0)
        found = run(journal_of(), again)
        assert again.measured == ["c"]
        assert found == [*before[:-1], (3, "c", {"speed": 50.0 + 1 / 3})]
        assert [json.loads(line)["round"] for line in path.read_text().splitlines()[1:]] == [
            turn for turn, _ in TURNS
        ]


def test_half_a_head_is_no_journal(journal_of):
    path = journal_of().path
    path.write_bytes(path.read_bytes()[:20])
    arms = Arms()
    run(journal_of(), arms)
    assert len(arms.measured) == len(TURNS)
    assert len(journal_of()) == len(TURNS)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"commit": "fedcba"}, 'commit was "0123456789abcdef" and is "fedcba"'),
        ({"uncommitted_changes": "77"}, 'uncommitted_changes was null and is "77"'),
        (
            {"options": {"rounds": 4, "arms": ["a"]}},
            'options.rounds was 3 and is 4; options.arms was null and is ["a"]',
        ),
        ({"machine": {"cpu": "a CPU", "cores": 4}}, "machine.cores was 2 and is 4"),
        ({"versions": {"a": {"torch": "2.14"}}}, 'versions.a.torch was "2.13" and is "2.14"'),
        ({"versions": {**HEAD["versions"], "b": {"x": "1"}}}, 'versions.b was null and is {"x": "1"}'),
    ],
)
def test_results_of_another_run_are_refused_or_discarded(journal_of, other, told):
    with pytest.raises(Killed):
        run(journal_of(), Arms(calls=4))
    path = journal_of().path
    content = path.read_bytes()
    with pytest.raises(UserError) as refused:
        journal_of(HEAD | other)
    assert str(refused.value) == (
        f"{path} is of another run, `python x.py --rounds 3`: {told}; --fresh discards its results, an --out "
        "of another name leaves them"
    )
    assert path.read_bytes() == content

    journal = journal_of(HEAD | other, fresh=True)
    assert len(journal) == 0
    assert journal.head == HEAD | other
    run(journal, Arms())
    with pytest.raises(UserError):
        journal_of()


def test_a_run_without_results_is_in_nobodys_way(journal_of):
    journal_of(HEAD | {"commit": "fedcba"})
    assert journal_of().head == HEAD


def test_the_same_options_in_other_words_go_on_and_the_first_words_are_reported(journal_of):
    run(journal_of(), Arms())
    journal = journal_of(HEAD | {"command": "python x.py"})
    assert len(journal) == len(TURNS)
    assert journal.provenance(Path("x"))["command"] == HEAD["command"]


def test_a_line_that_is_no_json_is_refused(journal_of):
    run(journal_of(), Arms())
    path = journal_of().path
    path.write_bytes(path.read_bytes().replace(b'{"round": 2', b"\0\0\0\0\0", 1))
    with pytest.raises(UserError, match="line 5 is no JSON; --fresh discards the file"):
        journal_of()


def test_a_run_that_is_complete_leaves_nothing(journal_of):
    journal = journal_of()
    run(journal, Arms())
    journal.remove()
    assert len(journal_of()) == 0


@pytest.fixture
def script(tmp_path) -> Path:
    """A script in a checkout of its own, with one commit."""
    path = tmp_path / "checkout" / "x.py"
    path.parent.mkdir()
    path.write_text("1\n")
    identity = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
    for words in (["init", "--quiet"], ["add", "x.py"], ["commit", "--quiet", "-m", "first"]):
        subprocess.run(["git", "-C", str(path.parent), *identity, *words], check=True)
    return path


def test_changed_files_are_told_apart(study, script):
    sources_of = study("journal").sources_of
    clean = sources_of(script)
    assert clean["uncommitted_changes"] is None
    states = []
    for text in ("2\n", "3\n", "2\n"):
        script.write_text(text)
        states.append(sources_of(script))
    assert states[0]["commit"] == f"{clean['commit']}-dirty"
    assert states[0] == states[2] != states[1]


def test_files_that_change_while_the_run_lasts_show_in_the_commit(study, journal_of, script):
    head = HEAD | study("journal").sources_of(script)
    journal = journal_of(head)
    commit = head["commit"]
    assert journal.provenance(script)["commit"] == commit
    script.write_text("2\n")
    assert journal.provenance(script)["commit"] == f"{commit}-dirty"
    assert journal.provenance(Path("/nowhere/x.py"))["machine"] == HEAD["machine"]


class Command:
    """A script of the study with arms that are none, to be called as on a command line."""

    def __init__(self, module, *, monkeypatch, tmp_path: Path) -> None:
        self.out = tmp_path / "r.json"
        self.journal = tmp_path / "outputs" / "r.jsonl"
        self._module, self._patch = module, monkeypatch
        monkeypatch.setattr(sys.modules["journal"], "DIRECTORY", self.journal.parent)
        self.commit("0123456789abcdef")

    def commit(self, commit: str) -> None:
        sources = {"commit": commit, "uncommitted_changes": None}
        self._patch.setattr(sys.modules["journal"], "sources_of", lambda script: sources)

    def __call__(self, *words: str) -> None:
        self._patch.setattr(sys, "argv", ["x.py", *words, "--out", str(self.out)])
        self._module.main()


@pytest.fixture
def compare(study, monkeypatch, tmp_path):
    """With two arms, of which `measure` is called by name."""
    module = study("compare")
    arms = {name: module.Arm(script=name, versions={"x": "1"}) for name in ("quire bf16", "other")}
    monkeypatch.setattr(module, "arms", lambda peers: arms)
    monkeypatch.setattr(module, "prepare", lambda *arguments: (7, 8))
    monkeypatch.setattr(module, "plot", lambda report, path: None)

    def measures_with(measure) -> Command:
        keys = ("tokens_per_second", "prefill_tokens_per_second", "start_to_first_token", "peak_rss_mib")

        def run_arm(name: str, arm, directory: Path) -> dict:
            return dict.fromkeys(keys, measure(name)["speed"])

        monkeypatch.setattr(module, "run_arm", run_arm)
        return Command(module, monkeypatch=monkeypatch, tmp_path=tmp_path)

    return measures_with


@pytest.fixture
def steps(study, monkeypatch, tmp_path):
    """With two arms, one of them vLLM's as far as its name goes."""
    module = study("steps")
    arms = {name: module.Arm("135m", (1,), 256) for name in ("135m", "135m, vLLM")}
    names = {id(arm): name for name, arm in arms.items()}
    monkeypatch.setattr(module, "make_arms", lambda *, quick, peers: arms)

    def make_models(directory: Path, *, quick: bool) -> None:
        (directory / "135m").mkdir()
        (directory / "135m" / "model.safetensors").write_bytes(b"weights")

    monkeypatch.setattr(module, "make_models", make_models)

    def measures_with(measure) -> Command:
        def run_arm(arm, models: Path) -> dict:
            speed = measure(names[id(arm)])["speed"]
            return {"batches": {"1": {"prefill_ms": [speed], "decode_ms": [speed]}}, "peak_rss_bytes": 1}

        monkeypatch.setattr(module, "run_arm", run_arm)
        return Command(module, monkeypatch=monkeypatch, tmp_path=tmp_path)

    return measures_with


@pytest.mark.parametrize(
    ("script", "rounds", "published"),
    [("compare", "--rounds", "results.json"), ("steps", "--repeats", "steps.json")],
)
def test_a_command_given_again_ends_as_if_it_had_not_been_cut_off(
    request, monkeypatch, capsys, script, rounds, published
):
    with_arms = request.getfixturevalue(script)
    command = with_arms(Arms())
    command(rounds, "3")
    whole = json.loads(command.out.read_text())
    assert json.loads((STUDY / published).read_text()).keys() <= whole.keys()
    assert whole["command"] == f"python experiments/cpu_speed/{script}.py {rounds} 3"
    assert whole["commit"] == "0123456789abcdef"
    assert not command.journal.exists()
    command.out.unlink()

    arms = Arms(calls=3)
    with pytest.raises(Killed):
        with_arms(arms)(rounds, "3")
    assert not command.out.exists()

    command = with_arms(Arms(first=0.1 + 1))  # what the fourth to sixth calls would have given
    command.commit("fedcba")
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        command(rounds, "3")
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert 'commit was "0123456789abcdef" and is "fedcba"; --fresh discards' in said

    command.commit("0123456789abcdef")
    command(rounds, "3")
    assert f"going on: 3 results are in {command.journal}" in capsys.readouterr().out
    again = json.loads(command.out.read_text())
    assert again["runs"].keys() == whole["runs"].keys()
    assert json.dumps(rounded(again)) == json.dumps(rounded(whole))
    assert not command.journal.exists()

    with pytest.raises(Killed):
        with_arms(Arms(calls=5))(rounds, "3")
    arms = Arms()
    command = with_arms(arms)
    command("--fresh", rounds, "3")
    assert len(arms.measured) == 6
    assert json.loads(command.out.read_text()) == whole


def rounded(value):
    """Numbers to a few digits: 0.1 + 1 + 1/3 is not 0.1 + 4/3 to the last bit."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return list(map(rounded, value))
    return round(value, 9) if isinstance(value, float) else value
