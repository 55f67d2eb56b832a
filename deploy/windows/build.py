# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Build the Windows package of the agent from an embeddable Python, on Linux, for `make msi`. See README.md.

Everything but the signature is the same at each build of the same sources with the same Python.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import tomllib
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from xml.sax.saxutils import quoteattr

ROOT: Final = Path(__file__).parents[2]
HERE: Final = Path(__file__).parent
PROGRAM: Final = "veilleuse-agent"
NAMESPACE: Final = uuid.UUID("0b5c2d0e-6f0b-4f5f-9c0b-6b1e3b6d8a41")
"""UpgradeCode of the package: every other code follows from it and a name."""
FRENCH: Final = 1036
SECURE: Final = "COLLECTOR;ENTITY;JOINFILE;POPULATION;WIX_DOWNGRADE_DETECTED;WIX_UPGRADE_DETECTED"
"""Properties that the installing service takes from the command line."""
COMMAND: Final = '@"%~dp0python\\veilleuse-agent.exe" -m veilleuse.agent %*\r\n'


def main() -> None:
    """Build dist/veilleuse-agent_VERSION_x64.msi and print its codes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", type=Path, metavar="ZIP", help="python-3.x.y-embed-amd64.zip")
    parser.add_argument("--uv", default="uv", help="the program uv")
    parser.add_argument("--version", default=project_version(), help="another version than pyproject.toml's")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="folder of the package")
    parser.add_argument("--sign", default="", help="arguments of `osslsigncode sign`, without -in and -out")
    given = parser.parse_args()
    if not given.python.is_file():
        sys.exit(
            "veilleuse: name the embeddable Python: make msi PYTHON_EMBED_ZIP=python-3.x.y-embed-amd64.zip"
        )
    os.environ["TZ"] = "UTC"  # of the times in the package
    os.environ.setdefault(
        "SOURCE_DATE_EPOCH", run("git", "-C", str(ROOT), "log", "-1", "--format=%ct").strip()
    )
    if not re.fullmatch(r"\d{1,3}\.\d{1,3}\.\d{1,5}", given.version):
        sys.exit(f"veilleuse: Windows Installer knows versions like 1.2.3 only, not {given.version}")
    given.output.mkdir(parents=True, exist_ok=True)
    package = given.output.resolve() / f"{PROGRAM}_{given.version}_x64.msi"
    with tempfile.TemporaryDirectory() as work:
        stage = Path(work, "stage")
        unpack_python(given.python, stage)
        install_libraries(stage, given.uv, Path(work))
        compile_libraries(stage)
        (stage / f"{PROGRAM}.cmd").write_text(COMMAND, encoding="ascii", newline="")
        set_times(stage)
        write_package(stage, given.version, package, Path(work))
        if given.sign:
            sign(package, shlex.split(given.sign), Path(work))
    print(f"{package}\nProductCode {product_code(given.version)}")


def project_version() -> str:
    """Return the version of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def code(name: str) -> str:
    """Return the GUID of something in the package, in the notation of Windows Installer."""
    return f"{{{uuid.uuid5(NAMESPACE, name)}}}".upper()


def product_code(version: str) -> str:
    """Return the product code of a version."""
    return code(f"product {version}")


def unpack_python(archive: Path, stage: Path) -> None:
    """Unpack the embeddable Python under our name, so that firewalls, scanners and people see whose it is."""
    with zipfile.ZipFile(archive) as opened:
        (program,) = (name for name in opened.namelist() if name.rpartition("/")[2] == "python.exe")
        folder = program.removesuffix("python.exe")
        for name in opened.namelist():
            if name.startswith(folder) and not name.endswith(("/", "pythonw.exe")):
                target = stage / "python" / name.removeprefix(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(opened.read(name))
    python = stage / "python"
    (python / "python.exe").rename(python / f"{PROGRAM}.exe")
    (paths,) = python.glob("python3*._pth")
    # this file alone says where modules are: neither PYTHONPATH nor the registry nor the present folder
    paths.write_text(f"{paths.stem}.zip\r\n.\r\n..\\lib\r\n", encoding="ascii", newline="")


def minor(stage: Path) -> str:
    """Return the minor version of the unpacked Python, e.g. 3.13."""
    (library,) = (stage / "python").glob("python3?*.dll")
    return f"3.{library.stem.removeprefix('python3')}"


def install_libraries(stage: Path, uv: str, work: Path) -> None:
    """Install the agent and its locked libraries; leave out the collector and what names this build."""
    wheel = work / "wheel"
    run(
        sys.executable,
        *("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", str(wheel), str(ROOT)),
    )
    install = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--target",
        str(stage / "lib"),
        "--no-deps",
        "--no-python-downloads",
    ]
    install += ["--python-platform", "x86_64-pc-windows-msvc", "--python-version", minor(stage)]
    run(*install, "--only-binary", ":all:", "--require-hashes", "-r", str(ROOT / "requirements/agent.txt"))
    run(*install, *map(str, wheel.glob("*.whl")))
    shutil.rmtree(stage / "lib" / "veilleuse" / "collector")
    shutil.rmtree(stage / "lib" / "bin")
    for pattern in (
        "*.dist-info/RECORD",
        "*.dist-info/direct_url.json",
        "*.dist-info/uv_cache.json",
        ".lock",
    ):
        for path in (stage / "lib").glob(pattern):
            path.unlink()


def compile_libraries(stage: Path) -> None:
    """Compile as the packaged Python would: its bytecode is the same on every system."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if here != minor(stage):
        sys.exit(
            f"veilleuse: the ZIP holds Python {minor(stage)}, this is {here}: make msi PYTHON=python{minor(stage)} …"
        )
    run(
        sys.executable,
        *("-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"),
        *("-s", str(stage), str(stage / "lib")),
    )


def set_times(stage: Path) -> None:
    """Give each file the time of the sources, which the package records."""
    moment = int(os.environ["SOURCE_DATE_EPOCH"])
    for path in stage.rglob("*"):
        os.utime(path, (moment, moment))


def write_package(stage: Path, version: str, package: Path, work: Path) -> None:
    """Write the package with wixl."""
    digest = hashlib.sha256()
    for path in files_of(stage):
        digest.update(path.relative_to(stage).as_posix().encode() + b"\0" + path.read_bytes())
    digest.update((HERE / f"{PROGRAM}.wxs").read_bytes())
    values = {"Version": version, "ProductCode": product_code(version), "Stage": str(stage)}
    values["PythonVersion"] = file_version(stage / "python" / f"{PROGRAM}.exe")
    listed = work / "files.wxs"
    listed.write_text("\n".join(file_list(stage)), encoding="utf-8")
    defines = [part for name, value in values.items() for part in ("-D", f"{name}={value}")]
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"])))
    run(
        *("faketime", "-f", moment, "wixl", "--arch", "x64", *defines, "-o", str(package)),
        *(str(HERE / f"{PROGRAM}.wxs"), str(listed)),
    )
    # what wixl leaves out: one change for each call of msibuild
    package_code = code(f"package {digest.hexdigest()}")
    run("msibuild", str(package), "-s", "Veilleuse", "Metropole de Lyon", f"x64;{FRENCH}", package_code)
    secure = f"UPDATE `Property` SET `Value` = '{SECURE}' WHERE `Property` = 'SecureCustomProperties'"
    run("msibuild", str(package), "-q", secure)
    page = work / "_ForceCodepage.idt"
    page.write_text("\r\n\r\n1252\t_ForceCodepage\r\n", encoding="ascii", newline="")
    run("msibuild", str(package), "-i", str(page))


def files_of(stage: Path) -> list[Path]:
    """Return the files to install, in the same order at each build."""
    return sorted(path for path in stage.rglob("*") if path.is_file())


def file_list(stage: Path) -> Iterator[str]:
    """Write the components of all files but the program: one for each, so that a repair finds each."""
    names = []
    yield '<Wix xmlns="http://schemas.microsoft.com/wix/2006/wi"><Fragment>'
    for folder in (stage, *sorted(path for path in stage.rglob("*") if path.is_dir())):
        yield f'<DirectoryRef Id="{identifier(stage, folder)}">'
        for path in sorted(folder.iterdir()):
            name, place = identifier(stage, path), path.relative_to(stage).as_posix()
            if path.is_dir() and path.name != "python":
                yield f"<Directory Id={quoteattr(name)} Name={quoteattr(path.name)}/>"
            elif path.is_file() and path.name != f"{PROGRAM}.exe":
                names.append(name)
                yield f'<Component Id="{name}" Guid="{code(f"component {place}")}" Win64="yes">'
                version = f' DefaultVersion="{found}"' if (found := file_version(path)) else ""
                yield f'<File Id="{name}" Source={quoteattr(str(path))} KeyPath="yes"{version}/></Component>'
        yield "</DirectoryRef>"
    yield '<ComponentGroup Id="Files">'
    yield from (f'<ComponentRef Id="{name}"/>' for name in names)
    yield "</ComponentGroup></Fragment></Wix>"


def file_version(path: Path) -> str:
    """Return the version in a program or library; empty if there is none.

    Without it, Windows Installer would take any installed version for a newer one, and an upgrade would keep
    that file, or lose it. Source: VS_FIXEDFILEINFO of verrsrc.h.
    """
    content = path.read_bytes() if path.suffix in (".exe", ".dll", ".pyd") else b""
    found = content.find(b"\xbd\x04\xef\xfe")
    if found < 0:
        return ""
    high, low = struct.unpack_from("<2I", content, found + 8)
    return f"{high >> 16}.{high & 0xFFFF}.{low >> 16}.{low & 0xFFFF}"


def identifier(stage: Path, path: Path) -> str:
    """Return the identifier of a folder or file; identifiers of Windows Installer know few characters."""
    known = {stage: "INSTALLDIR", stage / "python": "Python"}
    return (
        known.get(path) or "_" + hashlib.sha256(path.relative_to(stage).as_posix().encode()).hexdigest()[:32]
    )


def sign(package: Path, arguments: list[str], work: Path) -> None:
    """Sign the package with the operator's key."""
    signed = work / package.name
    run("osslsigncode", "sign", *arguments, "-n", "Veilleuse", "-in", str(package), "-out", str(signed))
    shutil.move(signed, package)


def run(*command: str) -> str:
    """Run a program and return what it writes, or end with what it says."""
    if shutil.which(command[0]) is None:
        sys.exit(f"veilleuse: {command[0]} is not here: deploy/ci/peers.sh --install")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"veilleuse: {command[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
