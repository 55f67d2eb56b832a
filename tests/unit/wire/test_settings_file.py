# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test settings: file < environment < flags, equal names everywhere, refusals with the nearest known key."""

from __future__ import annotations

from pathlib import Path

import pytest

from veilleuse.wire.settings_file import ConfigurationError, Section, describe, load, render_default, setting


class Inner(Section):
    count: int = setting(3, "How many.", minimum=1, maximum=9)
    ratio: float = setting(0.5, "A share.", minimum=0)
    word: str = setting("a", "One of two.", choices=("a", "b"))
    names: tuple[str, ...] = setting((), "Some names.")
    flag: bool = setting(False, "Yes or no.")
    folder: Path = setting(Path("/x"), "A path.\nOn two lines.")


class Outer(Section):
    top: str = setting('quote " and \\', "A key without section.")
    inner: Inner = setting(Inner(), "")


def loaded(
    tmp_path: Path, text: str = "", environment: dict[str, str] | None = None, **overrides: str
) -> Outer:
    """Load the settings from a file with this text, the environment and flags."""
    file = tmp_path / "s.toml"
    file.write_text(text)
    flags = {key.replace("__", "."): value for key, value in overrides.items()}
    return load(Outer, file=file, environment=environment or {}, prefix="APP", overrides=flags)


def test_a_bound_is_told_to_its_last_digit():
    """The message has 8388608, not 8.38861e+06, so that the value can be used."""

    class Bounded(Section):
        size: int = setting(8388608, "A size.", minimum=8388608)

    with pytest.raises(ConfigurationError, match=r"is 8388607: it must be at least 8388608$"):
        load(Bounded, file=None, environment={}, prefix="APP", overrides={"size": "8388607"})
    assert "minimum 8388608)" in render_default(Bounded)


def test_a_check_of_its_own(tmp_path):
    """The check runs on each value but the default; its reason follows key, place and value."""

    def even(number: int) -> None:
        if number % 2:
            raise ValueError("it must be even")

    class Checked(Section):
        number: int = setting(1, "An odd default is the programmer's business.", check=even)

    assert load(Checked, file=None, environment={}, prefix="APP", overrides={"number": "1"}).number == 1
    assert load(Checked, file=None, environment={}, prefix="APP", overrides={"number": "2"}).number == 2
    with pytest.raises(ConfigurationError, match="'number' on the command line is 3: it must be even"):
        load(Checked, file=None, environment={}, prefix="APP", overrides={"number": "3"})


def test_the_order_is_file_environment_flags(tmp_path):
    """The later source wins, and an unset key keeps its default."""
    text = "[inner]\ncount = 4\nratio = 0.25\n"
    assert loaded(tmp_path, text).inner == Inner(count=4, ratio=0.25)
    environment = {"APP__INNER__COUNT": "5", "APP__INNER__RATIO": "1", "OTHER__X": "y"}
    assert loaded(tmp_path, text, environment).inner == Inner(count=5, ratio=1.0)
    assert loaded(tmp_path, text, environment, inner__count="6").inner == Inner(count=6, ratio=1.0)
    assert load(Outer, file=None, environment={}, prefix="APP") == Outer()


def test_every_type_from_text_and_from_toml(tmp_path):
    """In the environment, lists are separated by commas and booleans are words."""
    environment = {
        "APP__INNER__NAMES": "x, y,,z",
        "APP__INNER__FLAG": "true",
        "APP__INNER__FOLDER": "/tmp/y",
        "APP__INNER__WORD": "b",
        "APP__TOP": "t",
    }
    expected = Outer(top="t", inner=Inner(names=("x", "y", "z"), flag=True, folder=Path("/tmp/y"), word="b"))
    assert loaded(tmp_path, "", environment) == expected
    text = 'top = "t"\n[inner]\nnames = ["x", "y", "z"]\nflag = true\nfolder = "/tmp/y"\nword = "b"\n'
    assert loaded(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[inner\n", "not valid TOML"),
        ("[inner]\ncuont = 1\n", r"unknown key 'inner.cuont' .*nearest known key is 'inner.count'"),
        ("count = 1\n", r"unknown key 'count' .*nearest known key is 'inner.count'"),
        ("zzzzqqqq = 1\n", "unknown key 'zzzzqqqq'"),
        ("[inner]\ncount = 0\n", "is 0: it must be at least 1"),
        ("[inner]\ncount = 10\n", "is 10: it must be at most 9"),
        ("[inner]\ncount = 1.5\n", "must be a whole number"),
        ("[inner]\ncount = true\n", "must be a whole number"),
        ('[inner]\ncount = "many"\n', "must be a whole number"),
        ("[inner]\nratio = nan\n", "must be a number"),
        ("[inner]\nratio = inf\n", "must be a number"),
        ("[inner]\nratio = []\n", "must be a number"),
        ('[inner]\nflag = "perhaps"\n', "must be true or false"),
        ("[inner]\nword = 1\n", "must be text"),
        ('[inner]\nword = "c"\n', "use one of a, b"),
        ("[inner]\nfolder = 1\n", "must be a path"),
        ("inner = 1\n", "unknown key 'inner'"),
        ("[inner.count]\nx = 1\n", "unknown key 'inner.count.x'"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(tmp_path, text, words):
    """The message is one line with the file, the value and what it must be."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        loaded(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "s.toml") in str(caught.value)


def test_where_a_wrong_value_came_from(tmp_path):
    """The message names the variable, the command line or the file."""
    with pytest.raises(ConfigurationError, match="APP__INNER__CONT"):
        loaded(tmp_path, "", {"APP__INNER__CONT": "1"})
    with pytest.raises(ConfigurationError, match=r"APP__INNER__COUNT\)"):
        loaded(tmp_path, "", {"APP__INNER__COUNT": "x"})
    with pytest.raises(ConfigurationError, match="on the command line"):
        loaded(tmp_path, inner__count="99")
    with pytest.raises(ConfigurationError, match="no configuration file"):
        load(Outer, file=tmp_path / "none", environment={}, prefix="APP")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="cannot read"):
        load(Outer, file=tmp_path / "binary", environment={}, prefix="APP")
    with pytest.raises(ConfigurationError, match="cannot read"):
        load(Outer, file=tmp_path, environment={}, prefix="APP")


def test_a_section_with_every_key_commented_out(tmp_path):
    """Such a section counts as absent."""
    assert loaded(tmp_path, "[inner]\n# count = 3\n") == Outer()


def test_the_default_is_written_out_whole(tmp_path):
    """The text has each key with its documentation, bounds and default; uncommented it gives the defaults."""
    text = render_default(Outer)
    for described in describe(Outer):
        for line in described.doc.splitlines():
            assert f"# {line}\n" in text
    assert "# (minimum 1; maximum 9)\n# count = 3\n" in text
    assert "# (one of a, b)\n" in text
    keys = {described.dotted.rpartition(".")[2] for described in describe(Outer)}
    lines = [line[2:] if line[2:].partition(" = ")[0] in keys else line for line in text.splitlines()]
    assert loaded(tmp_path, "\n".join(lines)) == Outer()
    assert [described.dotted for described in describe(Outer)] == [
        "top",
        "inner.count",
        "inner.ratio",
        "inner.word",
        "inner.names",
        "inner.flag",
        "inner.folder",
    ]


def test_a_section_is_a_value():
    """Sections compare by class and values, cannot be changed, and take only known keywords."""
    inner = Inner(count=4)
    assert inner == Inner(count=4) == Inner()._replace(count=4) != Inner()
    assert inner == Inner(count=4, ratio=0.5)  # an explicit default equals the default
    assert hash(inner) == hash(Inner(count=4, ratio=0.5))
    assert inner._replace(word="b") == Inner(count=4, word="b")
    assert Inner() != Outer()
    assert repr(Outer(inner=inner)).startswith(
        "Outer(top='quote \" and \\\\', inner=Inner(count=4, ratio=0.5, word='a'"
    )
    with pytest.raises(TypeError, match="Inner has no setting cuont"):
        Inner(cuont=4)  # type: ignore[call-arg]  # on purpose
    with pytest.raises(TypeError, match="cuont"):
        inner._replace(cuont=4)
    with pytest.raises(AttributeError, match="do not change"):
        inner.count = 5  # type: ignore[misc]  # on purpose
    with pytest.raises(AttributeError, match="do not change"):
        del inner.count
    assert inner.count == 4
    assert Inner.count == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = " + "[" * 5_000 + "]" * 5_000, "is not valid TOML: its tables or lists are nested too deeply"),
        ("a" + ".a" * 20_000 + " = 1", "is not valid TOML: a key has more than 64 dots"),
        ("[inner]\ncount = " + "9" * 5_000, "is not valid TOML: a number has more than 4,300 digits"),
        ("[inner]\ncount = 0x" + "f" * 5_000, "must be a whole number, not a number of 20,000 bits"),
        ("[inner]\nratio = 0x" + "f" * 5_000, "must be a number, not a number of 20,000 bits"),
        ('[inner]\nfolder = "a\\u0000b"', "has a character that cannot be printed: 'a\\x00b'"),
        (f'[inner]\nword = "{"x" * 9_000}"', f"is '{'x' * 60}'…: use one of a, b"),
        (f"{'x' * 9_000} = 1", f"unknown key '{'x' * 60}'… in"),
    ],
    ids=["deep", "dotted", "digits", "huge", "huge-ratio", "null", "long", "long-key"],
)
def test_what_breaks_parsers(tmp_path, text, told):
    """Inputs on which Python's parser fails or hangs give one short line."""
    with pytest.raises(ConfigurationError) as refused:
        loaded(tmp_path, text)
    assert told in str(refused.value)
    assert len(str(refused.value)) < 400


def test_dots_of_values_are_no_keys(tmp_path):
    """Dots in values do not count as dots of keys."""
    addresses = [f"10.0.0.{number}" for number in range(100)]
    assert loaded(tmp_path, f"[inner]\nnames = {addresses}").inner.names == tuple(addresses)
