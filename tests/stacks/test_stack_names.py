from spotkeeper.contract.names import stack_name
from tests.stacks.synthesized import Assembly


def test_stacks_are_named_as_programs_outside_look_for_them(any_environment: Assembly) -> None:
    found = {path.name.removesuffix(".template.json") for path in any_environment.folder.glob("*.template.json")}

    parts = ("storage", "network", "batch", "recovery", "observability")
    assert {stack_name(any_environment.environment, part) for part in parts} <= found
