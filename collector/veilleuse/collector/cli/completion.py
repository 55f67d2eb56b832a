# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse completion`: prints a script with which a shell completes command lines.

The script holds all commands and options: a shell that completes a word starts no program.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import chain
from typing import Annotated, Any, Final, NamedTuple

import typer

from veilleuse.collector.cli.language import translate
from veilleuse.collector.cli.shared import APP

app = typer.Typer(**APP)

FILES: Final = "FILES"
"""Stands for the files of the current folder, where a value is a path."""


class Shell(StrEnum):
    """Shell that reads the script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


class _Option(NamedTuple):
    names: tuple[str, ...]
    help: str
    values: tuple[str, ...] | None
    """Possible values, or FILES; empty: others; None: the option has no value."""


class _Command(NamedTuple):
    words: tuple[str, ...]
    """Words of the command line, without the program."""
    commands: tuple[tuple[str, str], ...]
    """(name, help) of the commands below."""
    options: tuple[_Option, ...]
    values: tuple[str, ...]
    """Possible arguments, or FILES."""

    @property
    def node(self) -> str:
        return "".join(f"/{word}" for word in self.words)


@app.command()
def completion(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish")],
) -> None:
    """Print a script that completes commands and options in a shell.

    The Debian package has these scripts. Elsewhere, write it to
    ~/.local/share/bash-completion/completions/veilleuse, ~/.config/fish/completions/veilleuse.fish, or for
    zsh to a file _veilleuse in a folder of fpath.
    """
    print(script(shell))


def script(shell: Shell) -> str:
    """Return the script for a shell."""
    from typer.main import get_command

    from veilleuse.collector.cli import main  # late: it names this module

    root: Any = get_command(main.app)
    names = [(name, root.get_command(None, name)) for name in main.COMMANDS]
    whole = _described((), root, [(name, one.short_help) for name, one in names])
    known = [whole, *chain.from_iterable(_below((name,), one) for name, one in names)]
    return "\n".join(_WRITERS[shell](known))


def _below(words: tuple[str, ...], command: Any) -> Iterator[_Command]:
    below = getattr(command, "commands", {})
    yield _described(words, command, [(name, one.get_short_help_str(200)) for name, one in below.items()])
    for name, one in below.items():
        yield from _below((*words, name), one)


def _described(words: tuple[str, ...], command: Any, below: Iterable[tuple[str, str]]) -> _Command:
    options: list[_Option] = []
    values: tuple[str, ...] = ()
    for one in command.params:
        if one.param_type_name == "option":
            names = (*one.opts, *one.secondary_opts)
            options.append(_Option(names, one.help or "", None if one.is_flag else _values_of(one)))
        else:
            values = values or _values_of(one)
    options.append(_Option(("-h", "--help"), translate("Show this message and exit."), None))
    return _Command(words, tuple(below), tuple(options), values)


def _values_of(parameter: Any) -> tuple[str, ...]:
    kind = parameter.type_descriptor
    if kind.is_choice:
        return tuple(str(getattr(choice, "value", choice)) for choice in kind.choices or ())
    return (FILES,) if kind.is_path else ()


def _bash(known: list[_Command]) -> Iterator[str]:
    yield "# bash completion of veilleuse; made by 'veilleuse completion bash'"
    yield "_veilleuse() {"
    yield "    local word node= words= current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}"
    yield "    COMPREPLY=()"
    yield from _walk(known, 'for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do', "done")
    yield '    case "$node $before" in'
    for names, listed in _values_after(known):
        yield f"        {names}) words='{' '.join(listed)}' ;;"
    yield '        *) case "$node" in'
    for one in known:
        names_of_options = chain.from_iterable(option.names for option in one.options)
        words = " ".join((*(name for name, _ in one.commands), *one.values, *names_of_options))
        yield f"            '{one.node}') words='{words}' ;;"
    yield "        esac ;;"
    yield "    esac"
    yield f"    if [[ \" $words \" == *' {FILES} '* && $current != -* ]]; then"
    yield "        compopt -o filenames 2>/dev/null"
    yield '        while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "$current")'
    yield "        return"
    yield "    fi"
    yield f'    COMPREPLY=($(compgen -W "${{words//{FILES}/}}" -- "$current"))'
    yield "}"
    yield "complete -F _veilleuse veilleuse"


def _zsh(known: list[_Command]) -> Iterator[str]:
    yield "#compdef veilleuse"
    yield "# zsh completion of veilleuse; made by 'veilleuse completion zsh'"
    yield "_veilleuse() {"
    yield "    local word node= before=${words[CURRENT-1]}"
    yield "    local -a commands options values"
    yield from _walk(known, 'for word in "${(@)words[2,CURRENT-1]}"; do', "done")
    yield '    case "$node $before" in'
    for names, listed in _values_after(known):
        does = "_files" if listed == (FILES,) else f"compadd -- {' '.join(listed)}"
        yield f"        {names}) {does}; return ;;"
    yield "    esac"
    yield '    case "$node" in'
    for one in known:
        commands = " ".join(_quoted(f"{name}:{told}") for name, told in one.commands)
        options = " ".join(
            _quoted(f"{name}:{option.help}") for option in one.options for name in option.names
        )
        yield f"        '{one.node}') commands=({commands}) options=({options}) values=({' '.join(one.values)}) ;;"
    yield "    esac"
    yield "    if [[ ${words[CURRENT]} == -* ]]; then _describe -o option options; return; fi"
    yield "    (( $#commands )) && _describe command commands"
    yield f"    if [[ $values == {FILES} ]]; then _files; elif (( $#values )); then compadd -- $values; fi"
    yield "}"
    yield '_veilleuse "$@"'


def _fish(known: list[_Command]) -> Iterator[str]:
    yield "# fish completion of veilleuse; made by 'veilleuse completion fish'"
    yield "function __veilleuse_at"
    yield "    set -l node ''"
    yield "    for word in (commandline -opc)[2..-1]"
    yield '        if contains -- "$node/$word" ' + " ".join(one.node for one in known if one.words)
    yield '            set node "$node/$word"'
    yield "        end"
    yield "    end"
    yield '    test "$node" = "$argv[1]"'
    yield "end"
    yield "complete -c veilleuse -f"
    for one in known:
        here = f"complete -c veilleuse -n {_quoted(f'__veilleuse_at {chr(34)}{one.node}{chr(34)}')}"
        for name, told in one.commands:
            yield f"{here} -a {name} -d {_quoted(told)}"
        if one.values:
            yield f"{here} -F" if one.values == (FILES,) else f"{here} -a {_quoted(' '.join(one.values))}"
        for option in one.options:
            names = " ".join(
                f"-l {name[2:]}" if name[:2] == "--" else f"-s {name[1:]}" for name in option.names
            )
            value = ""
            if option.values is not None:
                listed = "" if option.values in ((), (FILES,)) else f" -a {_quoted(' '.join(option.values))}"
                value = " -r -F" if option.values == (FILES,) else f" -x{listed}"
            yield f"{here} {names}{value} -d {_quoted(option.help)}"


_WRITERS: Final = {Shell.BASH: _bash, Shell.ZSH: _zsh, Shell.FISH: _fish}


def _values_after(known: list[_Command]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield (pattern of the command and option before a value, possible values)."""
    for one in known:
        for option in one.options:
            if option.values is not None:
                yield "|".join(f"'{one.node} {name}'" for name in option.names), option.values


def _walk(known: list[_Command], begin: str, end: str) -> Iterator[str]:
    """Yield lines that set `node` to the commands among the words before the current one."""
    yield f"    {begin}"
    yield '        case "$node/$word" in'
    yield "            " + "|".join(one.node for one in known if one.words) + ') node="$node/$word" ;;'
    yield "        esac"
    yield f"    {end}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "'\\''") + "'"
