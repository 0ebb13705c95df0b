"""What a command starts, as far as its words tell: a script, a module, or text of its own.

Only what stands before the program's own arguments is read as options of Python, a shell or a launcher: in
`python train.py -c config.yaml` the `-c` is the program's.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Self

_SHELLS: Final = frozenset({"bash", "sh", "dash", "zsh"})
_SHELL_VALUE_OPTIONS: Final = frozenset({"-o", "+o", "-O", "+O", "--rcfile", "--init-file"})
_PYTHON_LONG_VALUE_OPTION: Final = "--check-hash-based-pycs"
_LAUNCHERS: Final = (("torchrun",), ("accelerate", "launch"), ("deepspeed",))
_LAUNCHER_MODULES: Final = frozenset(
    {"torch.distributed.run", "torch.distributed.launch", "accelerate.commands.launch", "deepspeed"}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """What a command starts. Where all are empty, its words do not tell."""

    script: str | None = None
    """A file, as a relative path with `/`."""
    module: str | None = None
    """What `-m` names."""
    is_inline: bool = False
    """`python -c`: the program is in the command itself."""

    @classmethod
    def of(cls, command: tuple[str, ...]) -> Self:
        """Read a command."""
        if not command:
            return cls()
        name = PurePosixPath(command[0]).name
        if name.startswith("python"):
            return cls._of_python(command[1:])
        if name in _SHELLS:
            return cls._of_shell(command[1:])
        for launcher in _LAUNCHERS:
            if (name, *command[1 : len(launcher)]) == launcher:
                return cls._of_launcher(command[len(launcher) :])
        if command[0].endswith((".py", ".sh")) or "/" in command[0]:
            return cls._of_file(command[0])
        return cls()

    @classmethod
    def _of_python(cls, words: tuple[str, ...]) -> Self:
        """Read `[options] (-c text | -m module | file) …`, as the usage line of `python --help` has it."""
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word == _PYTHON_LONG_VALUE_OPTION:
                del rest[:1]
            elif word == "--":
                return cls._of_file(rest[0]) if rest else cls()
            elif word == "-" or not word.startswith("-"):
                return cls._of_file(word) if word != "-" else cls()
            elif not word.startswith("--"):
                # Letters may stand together (-um), and the first that takes a value takes the rest of the word.
                letter, value = _first_value_option(word, "cmWX")
                if letter in ("W", "X") and not value:
                    del rest[:1]
                elif letter == "c":
                    return cls(is_inline=True)
                elif letter == "m":
                    return cls._of_module(value or (rest.pop(0) if rest else ""), tuple(rest))
        return cls()

    @classmethod
    def _of_module(cls, module: str, arguments: tuple[str, ...]) -> Self:
        if module in _LAUNCHER_MODULES:
            return cls._of_launcher(arguments)
        return cls(module=module or None)

    @classmethod
    def _of_shell(cls, words: tuple[str, ...]) -> Self:
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word in _SHELL_VALUE_OPTIONS:
                del rest[:1]
            elif not word.startswith(("-", "+")):
                return cls._of_file(word)
            elif not word.startswith("--") and "c" in word:
                return cls()  # Its text may name anything.
        return cls()

    @classmethod
    def _of_launcher(cls, words: tuple[str, ...]) -> Self:
        """Read `[options] (-m module | file.py) …`; which options take a value, the launchers change too often."""
        for index, word in enumerate(words):
            if word in ("-m", "--module"):
                return cls(module=next(iter(words[index + 1 :]), None))
            if word.endswith(".py") and not word.startswith("-"):
                return cls._of_file(word)
        return cls()

    @classmethod
    def _of_file(cls, word: str) -> Self:
        path = PurePosixPath(word)
        return cls() if path.is_absolute() else cls(script=path.as_posix())

    def needs(self, folder: Path) -> bool:
        """Whether the program may need the files of `folder`; in doubt it does."""
        if self.is_inline:
            return False
        return self.module is None or self.is_in(folder)

    def is_in(self, folder: Path) -> bool:
        """Whether the script or the module is there."""
        if self.script is not None:
            return (folder / self.script).is_file()
        top = (self.module or "").partition(".")[0]
        return bool(top) and ((folder / top).is_dir() or (folder / f"{top}.py").is_file())


def _first_value_option(word: str, letters: str) -> tuple[str, str]:
    """Return the first of `letters` in a word of short options, and what follows it."""
    for index, letter in enumerate(word[1:], start=1):
        if letter in letters:
            return letter, word[index + 1 :]
    return "", ""
