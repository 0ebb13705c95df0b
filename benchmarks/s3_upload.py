"""A checkpoint's way to S3 beside boto3's multipart transfer, in turns: python -m benchmarks.s3_upload.

`benchmarks.checkpoint` contains it. All send the same memory to an endpoint on 127.0.0.1 that compares checksums and
keeps nothing, in a process of its own: over TLS, as S3 is spoken to, and over plain HTTP, where all sign a SHA-256 of
every byte too.

    save_mb_s       bytes by the wall clock
    cpu_s_per_gb    seconds of processor that the uploading process took, all threads, system calls included

boto3's multipart transfer is called with its defaults in two ways, and once with parts and threads as Spotkeeper has
them. Each ratio is of the size in which it is worst:

    s3_vs_boto3, s3_cpu_vs_boto3                how many times as fast, and which share of the processor time, over TLS,
                                                beside the better of the two with defaults
    s3_vs_tuned_boto3, s3_cpu_vs_tuned_boto3    the same to the third
    s3_plain_vs_boto3, s3_plain_cpu_vs_boto3    as the first, over plain HTTP: a server on one's own machine
"""

import ipaddress
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT: Final = Path(__file__).parents[1]
OURS: Final = "s3_spotkeeper"
SIZES_MB: Final = (250, 1000)
ROUNDS: Final = 15
DEFAULTS: Final = ("s3_boto3_fileobj", "s3_boto3_file")
TUNED: Final = ("s3_boto3_file_large_parts",)
SCHEMES: Final = ("https", "http")
RATIOS: Final = {
    ("s3_vs_boto3", "s3_cpu_vs_boto3"): ("https", DEFAULTS),
    ("s3_vs_tuned_boto3", "s3_cpu_vs_tuned_boto3"): ("https", TUNED),
    ("s3_plain_vs_boto3", "s3_plain_cpu_vs_boto3"): ("http", DEFAULTS),
}

Case = dict[str, Any]


def run(sizes_mb: Sequence[int], rounds: int) -> dict[str, Any]:
    """Return `cases` and `ratios`."""
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        pem = Path(folder) / "certificate.pem"
        pem.write_bytes(certificate())
        for scheme in SCHEMES:
            with endpoint(scheme, pem) as environ:
                for size_mb in sizes_mb:
                    print(f"{size_mb} MB to S3 over {scheme}: {rounds} rounds", file=sys.stderr, flush=True)
                    cases += [{**case, "scheme": scheme} for case in _measure(environ, size_mb, rounds)]
    return {"cases": cases, "ratios": ratios(cases)}


@contextmanager
def endpoint(scheme: str, pem: Path) -> Iterator[dict[str, str]]:
    """Yield the environment variables that lead to a new endpoint, which has the certificate."""
    options = [str(pem)] if scheme == "https" else []
    command = [sys.executable, "-m", "benchmarks.checkpointing.s3_sink", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield {
                "AWS_ENDPOINT_URL_S3": f"{scheme}://127.0.0.1:{int(process.stdout.readline())}",
                "AWS_CA_BUNDLE": str(pem),
                "AWS_ACCESS_KEY_ID": "testing",
                "AWS_SECRET_ACCESS_KEY": "testing",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        finally:
            process.kill()


def _measure(environ: dict[str, str], size_mb: int, rounds: int) -> list[Case]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SPOTKEEPER_"))}
    command = [sys.executable, "-m", "benchmarks.checkpointing.s3_client", str(size_mb), str(rounds)]
    finished = subprocess.run(command, cwd=ROOT, env={**kept, **environ}, stdout=subprocess.PIPE, check=True)
    cases: list[Case] = json.loads(finished.stdout)
    return cases


def certificate() -> bytes:
    """Return a certificate of 127.0.0.1 and its key, for today, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    signed = (
        builder.not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return signed.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def ratios(cases: Sequence[Case]) -> dict[str, float]:
    """Return the ratios, each of the size in which it is worst."""
    of: dict[tuple[str, int], dict[str, Case]] = defaultdict(dict)
    for case in cases:
        of[case["scheme"], case["size_mb"]][case["method"]] = case
    found: dict[str, float] = {}
    for (speed, cost), (scheme, others) in RATIOS.items():
        settings = [methods for (each, _), methods in of.items() if each == scheme]
        found[speed] = min(
            methods[OURS]["save_mb_s"] / max(methods[other]["save_mb_s"] for other in others) for methods in settings
        )
        found[cost] = max(
            methods[OURS]["cpu_s_per_gb"] / min(methods[other]["cpu_s_per_gb"] for other in others)
            for methods in settings
        )
    return {name: round(value, 3) for name, value in found.items()}


def table(cases: Sequence[Case]) -> str:
    """Return the cases as Markdown."""
    lines = ["| over | size | method | save, MB/s | processor, s/GB |", "|---|--:|---|--:|--:|"]
    for case in cases:
        figures = f"{case['save_mb_s']:.0f} | {case['cpu_s_per_gb']:.2f}"
        lines.append(f"| {case['scheme']} | {case['size_mb']} MB | {case['method']} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the figures."""
    figures = run(SIZES_MB, ROUNDS)
    print(table(figures["cases"]), json.dumps(figures["ratios"], indent=2), sep="\n\n")


if __name__ == "__main__":
    main()
