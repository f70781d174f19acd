"""Builds the packages into a folder: wheel, sdist, .deb, .rpm, the list of their contents (SBOM) and their sums.

Usage: build.py FOLDER NFPM

.ci/package runs it with the tools of tools.txt. README.md describes the content of the packages.
"""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from string import Template

import tomllib

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")
HOME = "usr/lib/gpufan"
SITE = f"{HOME}/lib/python3/site-packages"
NEEDED_EXTENSIONS = ("msgspec/",)
"""Packages that do not work without their extension modules. Others have the same code in Python."""


CHANGELOG = """\
- semver: {VERSION}
  date: {date}
  packager: {MAINTAINER}
  deb: {{urgency: medium, distributions: [stable]}}
  changes:
    - note: See {HOMEPAGE}/blob/main/.github/CHANGELOG.md
"""
"""The list of changes in the form of nfpm."""


def run(*command: str | Path) -> str:
    """Run a program in the source tree, and return its output. If it fails, end with its error."""
    done = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return done.stdout


def packaged(name: str) -> bool:
    """Whether the file `name` of a wheel, a path below site-packages, is put into the packages."""
    if name.startswith(("plotly/", "_plotly_utils/")):
        return name == "plotly/package_data/plotly.min.js"  # `gpufan web` uses only the script
    if name.endswith(".so"):
        return name.startswith(NEEDED_EXTENSIONS)
    return not name.startswith(("bin/", "share/", "."))


def install_wheels(site: Path, work: Path) -> None:
    """Put the wheels of requirements.txt for all Pythons and machines into one folder `site`.

    Names of extension modules contain Python and machine, so an interpreter imports only its own.
    """
    for python in PYTHONS:
        for machine in MACHINES:
            folder = work / f"{python}-{machine}"
            target = ("--target", folder, "--python-version", python, "--python-platform", f"{machine}-manylinux_2_28")
            options = ("--no-deps", "--only-binary", ":all:", "--require-hashes", "--no-compile-bytecode")
            run("uv", "pip", "install", "-q", *target, *options, "-r", HERE / "requirements.txt")
            for path in sorted(folder.rglob("*")):
                if path.is_file() and packaged(name := str(path.relative_to(folder))):
                    merge(path, site / name)


def merge(source: Path, target: Path) -> None:
    """Copy `source` to `target`. Two wheels of a package may differ only in the lists of their dist-info."""
    data = source.read_bytes()
    if target.exists() and target.read_bytes() != data:
        if source.name not in ("RECORD", "WHEEL"):
            sys.exit(f"{target} differs from Python to Python")
        data = b"".join(sorted({*target.read_bytes().splitlines(True), *data.splitlines(True)}))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)


def remove_missing_from_records(site: Path) -> None:
    """Remove the files that are not packaged from the RECORD of each package."""
    for record in site.glob("*.dist-info/RECORD"):
        lines = record.read_text().splitlines(True)
        record.write_text("".join(line for line in lines if (site / line.split(",")[0]).exists()))


def make_environment(stage: Path) -> None:
    """Make the virtual environment of the package. It works with every Python in `PYTHONS`."""
    home = stage / HOME
    (home / "bin").mkdir()
    (home / "bin/python3").symlink_to("/usr/bin/python3")
    (home / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    for python in PYTHONS:
        (home / f"lib/python{python}").symlink_to("python3")
    shutil.copy(HERE / "launcher.py", home / "bin/gpufan")
    (home / "bin/gpufan").chmod(0o755)
    write(stage, "usr/bin/gpufan", "").unlink()
    (stage / "usr/bin/gpufan").symlink_to("../lib/gpufan/bin/gpufan")


def write(stage: Path, name: str, text: str) -> Path:
    """Write a file below `stage`; compressed if its name ends with `.gz`."""
    path = stage / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    return path


def write_texts(stage: Path, deb: Path, rpm: Path) -> None:
    """Write the files that gpufan makes: units, manual pages and completion."""
    sys.path.insert(0, str(stage / SITE))
    sys.dont_write_bytecode = True
    from gpufan.cli.completion import completion_script
    from gpufan.cli.man import PAGES, man_page
    from gpufan.service.package import packaged_units

    for name, text in packaged_units().items():
        write(stage, f"usr/lib/systemd/system/{name}", text)
    for page in PAGES:
        write(deb, f"usr/share/man/man{page[-1]}/{page}.gz", man_page(page))
        write(stage.with_suffix(".man"), f"{page}.gz", man_page(page))  # nfpm needs a list of these files for the .rpm
    write(stage, "usr/share/bash-completion/completions/gpufan", completion_script("bash"))
    write(stage, "usr/share/fish/vendor_completions.d/gpufan.fish", completion_script("fish"))
    write(deb, "usr/share/zsh/vendor-completions/_gpufan", completion_script("zsh"))
    write(rpm, "usr/share/zsh/site-functions/_gpufan", completion_script("zsh"))


def write_packages_of_the_distribution(deb: Path, rpm: Path) -> None:
    """Let gpufan find scipy and matplotlib of the distribution. If a package is also in `SITE`, that one is used."""
    write(deb, f"{SITE}/distribution.pth", "/usr/lib/python3/dist-packages\n")
    folders = 'f"/usr/{lib}/python3.{sys.version_info[1]}/site-packages" for lib in ("lib64", "lib")'
    write(rpm, f"{SITE}/distribution.pth", f"import sys; sys.path.extend({folders})\n")


def settle(folder: Path, epoch: int) -> None:
    """Give every file below `folder` the same mode and time on every machine."""
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def package(stage: Path, version: str, epoch: int, folder: Path, nfpm: Path) -> None:
    """Make the .deb and the .rpm of the files in `stage`, `stage`.deb and `stage`.rpm."""
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text())["project"]
    author = project["authors"][0]
    values = {
        "STAGE": str(stage),
        "VERSION": version,
        "MAINTAINER": f"{author['name']} <{author['email']}>",
        "VENDOR": author["name"],
        "HOMEPAGE": project["urls"]["Homepage"],
    }
    date = datetime.fromtimestamp(epoch, timezone.utc).isoformat()
    write(stage.parent, f"{stage.name}.yaml", CHANGELOG.format(date=date, **values))
    config = write(stage.parent, "nfpm.yaml", Template((HERE / "nfpm.yaml").read_text()).substitute(values))
    for name in (f"gpufan_{version}_all.deb", f"gpufan-{version}.noarch.rpm"):
        kind = name.rpartition(".")[2]
        done = subprocess.run(
            [nfpm, "package", "--config", config, "--packager", kind, "--target", folder / name],
            cwd=HERE,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            sys.exit(f"nfpm: {done.stdout}{done.stderr}")


def sums(folder: Path) -> Iterator[str]:
    """The lines of SHA256SUMS."""
    for path in sorted(folder.iterdir()):
        yield f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"


def main() -> None:
    """Build everything."""
    folder, nfpm = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    os.umask(0o022)
    epoch = int(os.environ.setdefault("SOURCE_DATE_EPOCH", run("git", "log", "-1", "--format=%ct").strip()))
    shutil.rmtree(folder, ignore_errors=True)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, SOURCE)
    (wheel,) = folder.glob("*.whl")
    version = wheel.name.split("-")[1]
    with tempfile.TemporaryDirectory() as work:
        stage, deb, rpm = (Path(work, "root" + suffix) for suffix in ("", ".deb", ".rpm"))
        site = stage / SITE
        install_wheels(site, Path(work))
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
        remove_missing_from_records(site)
        make_environment(stage)
        bom = folder / f"gpufan-{version}.cdx.json"
        run("cyclonedx-py", "environment", "--output-reproducible", "-o", bom, stage / HOME / "bin/python3")
        write_texts(stage, deb, rpm)
        write_packages_of_the_distribution(deb, rpm)
        write(deb, "usr/share/doc/gpufan/copyright", (HERE / "copyright").read_text())
        write(deb, "usr/share/doc/gpufan/CHANGELOG.md.gz", (SOURCE / ".github/CHANGELOG.md").read_text())
        write(deb, "usr/share/lintian/overrides/gpufan", (HERE / "lintian-overrides").read_text())
        for tree in (stage, deb, rpm):
            settle(tree, epoch)
        package(stage, version, epoch, folder, nfpm)
    (folder / "SHA256SUMS").write_text("".join(sums(folder)))


main()
