import subprocess
import sys


def test_importing_the_package_and_its_contract_loads_neither_torch_nor_boto3() -> None:
    program = (
        "import sys, spotkeeper\n"
        "from spotkeeper.contract import (checkpoint_layout, descriptor, environment_variables, events, exit_codes,"
        " ledger, local_endpoint, log_lines, names, outcome, tags)\n"
        "print(sorted({'torch', 'boto3', 'botocore', 'numpy'} & set(sys.modules)))"
    )

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"
