"""The command line as a user meets it: each test starts the real program, on tasks made up for it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distributions import write_distribution

RUN_PY = Path(__file__).parents[2] / "run.py"

TASKS = '''
import json, time
from dataclasses import dataclass
from quire.errors import UserError
from quire.interfaces import Task

@dataclass
class ShowConfig:
    """What `show` writes and how it ends."""
    text: str = "shown"
    refuse: bool = False
    crash: bool = False
    sleep: float = 0.0

class Show(Task):
    """Writes what it was given."""
    Config = ShowConfig
    def __init__(self, *, config):
        self.config = config
    def run(self, run):
        try:
            time.sleep(self.config.sleep)
        finally:
            shown = {"text": self.config.text, "seed": run.config.seed,
                     "scheduler": type(run.config.scheduler).__name__}
            (run.directory / "shown.json").write_text(json.dumps(shown))
        if self.config.refuse:
            raise UserError(f"task.refuse: seed {run.config.seed} is refused")
        if self.config.crash:
            raise KeyError("a bug")
'''


@pytest.fixture
def start(tmp_path):
    """Start run.py in an empty directory, with two distributions installed: `show`, and a broken one."""
    site, here = tmp_path / "site", tmp_path / "here"
    here.mkdir()
    write_distribution(site, "quire-show", {"quire.task": {"show": "cli_show:Show"}}, {"cli_show": TASKS})
    lost = {"quire.scheduler": {"lost": "cli_lost:Lost"}}
    write_distribution(site, "quire-lost", lost, {"cli_lost": "import no_such_library"}, version="0.2")

    (here / "torn.yaml").write_text("seed: [")

    def start(*arguments, **environment):
        return subprocess.Popen(
            [sys.executable, str(RUN_PY), *arguments],
            cwd=here,
            env={**os.environ, "PYTHONPATH": str(site), "COLUMNS": "120", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # a shell that runs the tests in the background has its children ignore interrupts
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    start.directory = here
    return start


@pytest.fixture
def run(start):
    """Run run.py to its end."""

    def run(*arguments, **environment):
        process = start(*arguments, **environment)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    run.directory = start.directory
    return run


WARNING = (
    "quire: warning: scheduler 'lost' of quire-lost 0.2 is skipped:"
    " ModuleNotFoundError: No module named 'no_such_library'"
)


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Lines on stderr besides the warning about the broken distribution, which must be one line."""
    lines = done.stderr.splitlines()
    assert lines.count(WARNING) == 1, done.stderr
    return [line for line in lines if line != WARNING]


def test_a_run_keeps_its_results_in_a_directory_of_its_own(run):
    done = run("task=show", "task.text=hello", "seed=5", "scheduler=sarathi")
    assert (done.returncode, done.stdout, complaints(done)) == (0, "", [])
    (result,) = run.directory.glob("outputs/*/*/shown.json")
    assert json.loads(result.read_text()) == {"text": "hello", "seed": 5, "scheduler": "SarathiConfig"}
    assert "text: hello" in (result.parent / ".hydra" / "config.yaml").read_text()
    assert (result.parent / "quire.log").exists()


def test_runs_started_together_keep_their_results_apart(start):
    processes = [start("task=show", f"seed={seed}") for seed in range(3)]
    assert [process.communicate(timeout=120) and process.returncode for process in processes] == [0, 0, 0]
    results = [json.loads(file.read_text()) for file in start.directory.glob("outputs/*/*/shown.json")]
    assert sorted(result["seed"] for result in results) == [0, 1, 2]


def test_a_study_keeps_its_configuration_in_a_file_of_its_own(run):
    (run.directory / "mine.yaml").write_text(
        "defaults: [config, override task: show, override scheduler: sarathi, _self_]\n"
        "scheduler: {chunk_tokens: 64}\n"
    )
    done = run("-cd", ".", "-cn", "mine", "seed=6", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert "chunk_tokens: 64" in done.stdout
    assert "seed: 6" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("scheduler=sarath", "'sarath' (did you mean 'sarathi'?)"),
        ("scheduler=lost", "scheduler 'lost' of quire-lost 0.2: ModuleNotFoundError: No module named"),
        ("task=show task.slep=1", "'slep' not in 'ShowConfig' (did you mean 'sleep'?)"),
        ("task=show task.sleep=long", "task.sleep=long: Value 'long' of type 'str' could not be converted"),
        ("task=show task.refuse=true seed=3", "task.refuse: seed 3 is refused"),
        ("task=show seed=-3", "seed=-3: must be at least 0"),
        ("scheduler=null", "Got NoneType"),
        ("-cd . -cn torn", "expected the node content, but found '<stream end>'   in \""),
        ("task=show hydra.run.dir=torn.yaml/x", "Not a directory: "),
        ("-m scheduler=fcfs,sarath", "(did you mean 'sarathi'?)"),
        (
            "plugin",
            "(did you mean 'plugins'?) nor KEY=VALUE",
        ),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(run, arguments, message):
    done = run(*arguments.split())
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line != WARNING]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("quire: error: ")
    assert message in lines[0]
    assert done.stdout == ""


def test_a_bug_shows_its_traceback_and_leaves_it_in_the_log(run):
    done = run("task=show", "task.crash=true")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "KeyError: 'a bug'" in done.stderr
    assert "hydra/_internal" not in done.stderr, "frames that are not the user's help nobody"
    (log,) = run.directory.glob("outputs/*/*/quire.log")
    assert "KeyError: 'a bug'" in log.read_text()


def test_hydra_full_error_shows_where_a_complaint_comes_from(run):
    done = run("scheduler=sarath", HYDRA_FULL_ERROR="1")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_a_sweep_runs_every_combination(run):
    done = run("-m", "task=show", "seed=1,2", "scheduler=fcfs,sarathi")
    assert done.returncode == 0
    shown = [json.loads(file.read_text()) for file in run.directory.glob("multirun/*/*/*/shown.json")]
    cells = sorted((cell["seed"], cell["scheduler"]) for cell in shown)
    assert cells == [(1, "FcfsConfig"), (1, "SarathiConfig"), (2, "FcfsConfig"), (2, "SarathiConfig")]
    assert [line.strip() for line in complaints(done) if "#" in line] == [
        "#0 : task=show seed=1 scheduler=fcfs",
        "#1 : task=show seed=1 scheduler=sarathi",
        "#2 : task=show seed=2 scheduler=fcfs",
        "#3 : task=show seed=2 scheduler=sarathi",
    ]


def test_options_may_stand_between_overrides(run):
    done = run("seed=1,2", "-m", "task=show", "-cn", "capacity", "scheduler=sarathi")
    assert done.returncode == 0, done.stderr
    shown = [json.loads(file.read_text()) for file in run.directory.glob("multirun/*/*/*/shown.json")]
    assert sorted((cell["seed"], cell["scheduler"]) for cell in shown) == [
        (1, "SarathiConfig"),
        (2, "SarathiConfig"),
    ]


@pytest.mark.parametrize(("how", "code"), [("refuse", 2), ("crash", 1)])
def test_a_cell_that_fails_is_marked_and_the_sweep_goes_on(run, how, code):
    done = run("-m", "task=show", "seed=1,2", f"task.{how}=true,false")
    assert done.returncode == code
    assert len(list(run.directory.glob("multirun/*/*/*/shown.json"))) == 4
    marks = [line for line in complaints(done) if line.startswith("quire: error: ")]
    assert [mark.partition("] ")[0] for mark in marks[:-1]] == [
        f"quire: error: [task=show seed={seed} task.{how}=True" for seed in (1, 2)
    ]
    assert marks[-1] == "quire: error: not every cell of the sweep succeeded, see above"
    assert ("Traceback" in done.stderr) == (how == "crash")


def test_an_interrupt_keeps_what_the_task_kept_and_says_nothing(start):
    process = start("task=show", "task.sleep=60")
    deadline = time.monotonic() + 60
    while not list(start.directory.glob("outputs/*/*/.hydra/overrides.yaml")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)  # the task begins right after its directory
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines() == [WARNING]
    assert len(list(start.directory.glob("outputs/*/*/shown.json"))) == 1


def test_help_lists_every_group_with_its_plugins(run):
    done = run("--help")
    assert done.returncode == 0
    words = done.stdout.split("Keys")[0].split()
    assert {"bench*", "show", "fcfs*", "prefill_first", "sarathi", "static"} <= set(words)
    assert "lost" not in words
    assert "max_step_tokens: 1024" in done.stdout


def test_help_shows_the_options_of_the_plugin_that_was_chosen(run):
    done = run("task=show", "--help")
    assert "  refuse: false" in done.stdout


def test_cfg_prints_the_configuration(run):
    done = run("task=show", "seed=9", "--cfg", "job")
    assert done.returncode == 0
    assert "seed: 9" in done.stdout
    assert "  text: shown" in done.stdout


def test_info_prints_how_the_configuration_is_composed(run):
    done = run("task=show", "--info", "defaults")
    assert done.returncode == 0
    assert "task/show" in done.stdout


def test_the_shell_completes_groups_plugins_and_options(run):
    def completions(line):
        done = run("-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
        assert done.stderr == "", "a warning here would be written across the user's prompt"
        return done.stdout.split()

    assert "scheduler=" in completions("quire schedul")
    assert completions("quire task=sh") == ["task=show"]
    assert completions("quire task=show task.re") == ["task.refuse="]


def test_plugins_lists_what_is_installed(run):
    done = run("plugins", "scheduler")
    assert done.returncode == 0
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines()}
    assert rows["fcfs"][1] == "quire"
    assert rows["fcfs"][3:5] == ["ok", "Continuous"]
    assert rows["lost"][1:5] == ["quire-lost", "0.2", "broken", "ModuleNotFoundError:"]
    assert "lru" not in rows
    done = run("plugins", "--json")
    plugins = {(plugin["kind"], plugin["name"]): plugin for plugin in json.loads(done.stdout)}
    assert plugins["task", "show"] == {
        "kind": "task",
        "name": "show",
        "distribution": "quire-show",
        "version": "1.0",
        "target": "cli_show:Show",
        "description": "Writes what it was given.",
        "error": None,
        "status": "ok",
    }
    assert plugins["scheduler", "lost"]["status"] == "broken"
    assert run("plugins", "scheduling").stderr.startswith("quire: error: there is no kind 'scheduling'")


def test_version_is_quires_own(run):
    assert run("--version").stdout == f"quire {importlib.metadata.version('quire')}\n"


def test_the_console_script_is_the_same_program(run):
    script = Path(sys.executable).with_name("quire")
    done = subprocess.run([script, "plugins", "eviction"], capture_output=True, text=True, check=True)
    assert done.stdout == run("plugins", "eviction").stdout
