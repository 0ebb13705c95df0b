import secrets

import pytest

from spotkeeper.ops.secret_scan import looks_secret, secret_in_command

# Put together here, so that scanners of this repository do not take them for real ones.
SECRETS = [
    ("AWS_ACCESS_KEY_ID", "AKIA" + "IOSFODNN7EXAMPLE", "an AWS access key id"),
    ("X", "prefix ASIA" + "IOSFODNN7EXAMPLE", "an AWS access key id"),
    ("X", "ghp_" + "a1B2" * 9, "a GitHub token"),
    ("X", "github_pat_" + "11AAAAAAA0" * 3, "a GitHub token"),
    ("X", "glpat-" + "abcdefghij0123456789", "a GitLab token"),
    ("X", "hf_" + "abcdEFGH" * 4, "a Hugging Face token"),
    ("X", "sk-" + "proj-abcdefghijklmnop1234", "an API key"),
    ("X", "xoxb-" + "1234567890-abc", "a Slack token"),
    ("X", "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIE", "a private key"),
    ("X", "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTY3ODkwIn0.sig", "a JSON web token"),
    ("DATABASE_URL", "postgres://user:" + "hunter2@db/x", "a password in a URL"),
    ("X", "Authorization: Bearer " + "a1b2c3d4e5", "a bearer token"),
    ("X", "DefaultEndpointsProtocol=https;AccountKey=" + "abcdEFGH" * 5 + "==", "an Azure key"),
    ("DB_PASS", "hunter", "its name says so"),
    ("PGPASS", "hunter", "its name says so"),
    ("MYSQL_PWD", "hunter", "its name says so"),
    ("SIGNING_KEY", "hunter", "its name says so"),
    ("SSH_KEY", "Hunter2", "its name says so"),
    ("HF_TOKEN", "abc", "its name says so"),
    ("DB_PASSWORD", "abc", "its name says so"),
    ("dbpassword", "abc", "its name says so"),
    ("WANDB_API_KEY", "abc", "its name says so"),
    ("MY_SECRET", "abc", "its name says so"),
    ("X", "0123456789abcdef" * 2 + "01234567", "its value looks random"),
    ("X", "Zm9vYmFyQmF6UXV4MTIzNDU2Nzg5MA", "its value looks random"),
]
HARMLESS = [
    ("MAX_TOKENS", "2048"),
    ("TOKEN_LIMIT", "2048"),
    ("TOKENIZERS_PARALLELISM", "false"),
    ("USE_TOKEN", "true"),
    ("MONKEY", "banana"),
    ("KEYBOARD_LAYOUT", "dvorak"),
    ("MODEL", "mistralai/Mistral-7B-Instruct-v0.3"),
    ("DATA", "s3://datasets/public/imagenet-2012/train-00001-of-01024.tar"),
    ("PYTHONPATH", "/opt/program/src:/opt/program/lib/python3.13/site-packages"),
    ("GIT_COMMIT", "0123456789abcdef0123456789abcdef01234567"),
    ("IMAGE_SHA256", "0123456789abcdef" * 4),
    ("EXPERIMENT", "resnet50-cosine-warmup-augmix-2026"),
    ("LAYERS", "[64, 64, 128, 256]"),
    ("ENDPOINT", "https://wandb.example.com:8080/api"),
    ("NCCL_DEBUG", "INFO"),
    ("EMPTY_TOKEN", ""),
    ("SORT_KEY", "name"),
    ("PARTITION_KEY", "created_at"),
    ("PWD", "/opt/program"),
    ("OLD_PWD", "/opt/program"),
    ("PAD_TOKEN", "<pad>"),
    ("CLS_TOKEN", "[CLS]"),
    ("TOKEN_FILE", "/run/secrets/token"),
    ("BEARER", "a bearer of news"),
]


@pytest.mark.parametrize(("name", "value", "reason"), SECRETS)
def test_a_secret_is_told_by_its_format_its_name_or_its_randomness(name: str, value: str, reason: str) -> None:
    found = looks_secret(name, value)

    assert found is not None
    assert reason in found
    assert value not in found


@pytest.mark.parametrize(("name", "value"), HARMLESS)
def test_ordinary_settings_pass(name: str, value: str) -> None:
    assert looks_secret(name, value) is None


def test_nearly_every_random_key_is_found() -> None:
    """Ours are 256 bits in base64; one without a digit or with few distinct characters may pass."""
    found = sum(looks_secret("X", secrets.token_urlsafe(32)) is not None for _ in range(2000))
    assert found >= 1950


@pytest.mark.parametrize(
    "command",
    ["t.py --password=hunter2", "t.py --db-pass hunter2", "env API_KEY=hunter2 t.py", "t.py -H Bearer\xa0a1b2c3d4"],
)
def test_a_secret_in_a_command_is_found_and_not_repeated(command: str) -> None:
    found = secret_in_command(tuple(command.split(" ")))

    assert found is not None
    assert "hunter2" not in found


@pytest.mark.parametrize(
    "command",
    [
        "python train.py --max-tokens=2048 --pad-token <pad> --sort-key name --tokenizer bert",
        "python train.py --use-token --epochs 3",
        "python train.py --token",
        "python train.py lr=0.1 model.key=name",
    ],
)
def test_ordinary_commands_pass(command: str) -> None:
    assert secret_in_command(tuple(command.split())) is None
