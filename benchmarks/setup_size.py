"""What `make setup` downloads and takes on the disk: python -m benchmarks.setup_size."""

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.result import write

ROOT = Path(__file__).parents[1]
TORCH = "torch==2.13.0"


def main() -> None:
    """Download everything once into a folder that is thrown away, and weigh it."""
    with tempfile.TemporaryDirectory() as folder:
        locked, torch = Path(folder) / "locked", Path(folder) / "torch"
        _download(locked, "--require-hashes", "--no-deps", "-r", "requirements.lock")
        _download(torch, "--no-deps", TORCH)
        figures = {
            "locked_packages": len(list(locked.iterdir())),
            "locked_download_mb": _megabytes(locked),
            "torch_download_mb": _megabytes(torch),
            "torch_build": next(torch.iterdir()).name,
            "environment_mb": _megabytes(ROOT / ".venv"),
        }
    write("setup_size", "python -m benchmarks.setup_size", figures)


def _download(folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "download", "-qq", "-d", folder, *arguments], cwd=ROOT, check=True)


def _megabytes(folder: Path) -> int:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    return round(sum(path.stat().st_size for path in files) / 1e6)


if __name__ == "__main__":
    main()
