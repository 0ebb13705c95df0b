from pathlib import Path

import pytest

from spotkeeper.ops.command import Program

SCRIPTS = [
    ("python train.py", "train.py"),
    ("python train.py -c config.yaml", "train.py"),
    ("python train.py -m resnet", "train.py"),
    ("python -W ignore train.py", "train.py"),
    ("python -Wignore -X dev -u train.py", "train.py"),
    ("python -uW ignore train.py", "train.py"),
    ("python --check-hash-based-pycs always train.py", "train.py"),
    ("python -- train.py", "train.py"),
    ("python train", "train"),
    ("/usr/bin/python3.13 -u pkg/main.py --x y.py", "pkg/main.py"),
    ("torchrun train.py", "train.py"),
    ("torchrun --standalone --nproc-per-node 4 train.py -m resnet", "train.py"),
    ("accelerate launch --num_processes 2 train.py --x", "train.py"),
    ("python -m torch.distributed.run --standalone train.py", "train.py"),
    ("bash run.sh", "run.sh"),
    ("bash -eu -o pipefail run.sh -c x", "run.sh"),
    ("sh scripts/run", "scripts/run"),
    ("./run.sh", "run.sh"),
    ("./train --x", "train"),
    ("bin/train", "bin/train"),
]


@pytest.mark.parametrize(("command", "script"), SCRIPTS)
def test_the_script_is_what_stands_after_the_options_of_its_interpreter(command: str, script: str) -> None:
    assert Program.of(tuple(command.split())) == Program(script=script)


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("python -m pkg.main train.py", "pkg.main"),
        ("python -um pkg.main", "pkg.main"),
        ("python -mpkg.main", "pkg.main"),
        ("torchrun --standalone -m pkg.main x.py", "pkg.main"),
        ("accelerate launch --module pkg.main", "pkg.main"),
    ],
)
def test_a_module_is_what_the_interpreters_own_m_names(command: str, module: str) -> None:
    assert Program.of(tuple(command.split())) == Program(module=module)


@pytest.mark.parametrize("command", ["python -c print(1)", "python -Ic print(1) train.py"])
def test_pythons_own_c_holds_the_program_in_the_command(command: str) -> None:
    assert Program.of(tuple(command.split())) == Program(is_inline=True)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "true",
        "bash -c train.py",
        "bash -lc train.py",
        "python",
        "python -",
        "python -m",
        "/opt/run.sh",
        "torchrun x",
    ],
)
def test_where_the_words_do_not_tell_nothing_is_assumed(command: str) -> None:
    program = Program.of(tuple(command.split()))

    assert program == Program()
    assert program.needs(Path("/nowhere")), "in doubt"


def test_files_are_needed_unless_the_program_is_in_the_command_or_installed(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "tool.py").touch()

    assert not Program(is_inline=True).needs(tmp_path)
    assert not Program(module="json.tool").needs(tmp_path)
    assert Program(module="pkg.main").needs(tmp_path)
    assert Program(module="tool").needs(tmp_path)
    assert Program(script="gone.py").needs(tmp_path)
