from hypothesis import given
from hypothesis import strategies as st

from spotkeeper.contract import checkpoint_layout as layout

epochs = st.integers(min_value=1, max_value=999_999)
steps = st.integers(min_value=0, max_value=10**12 - 1)


@given(first=st.tuples(epochs, steps), second=st.tuples(epochs, steps))
def test_the_lexical_order_of_manifest_keys_is_the_order_of_epoch_and_step(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    keys = [layout.manifest_key("run", *first), layout.manifest_key("run", *second)]

    assert (keys[0] < keys[1]) == (first < second)


@given(epoch=epochs, step=steps)
def test_a_manifest_key_reads_back_as_its_epoch_and_step(epoch: int, step: int) -> None:
    assert layout.parse_manifest_key(layout.manifest_key("digits-1a2b", epoch, step)) == (epoch, step)


def test_no_other_key_reads_as_a_manifest() -> None:
    others = [
        layout.epoch_key("run", 3),
        layout.data_key("run", 3, 100, "c0ffee", 0),
        "commit/run/000001-000000000001.json.tmp",
        "commit/run/1-1.json",
        "",
    ]

    assert [layout.parse_manifest_key(key) for key in others] == [None] * len(others)


def test_every_kind_of_key_begins_with_the_prefix_that_lifecycle_rules_name() -> None:
    assert layout.data_key("run", 1, 2, "n", 0).startswith(layout.DATA_PREFIX + "run/")
    assert layout.manifest_key("run", 1, 2).startswith(layout.commit_prefix("run"))
    assert layout.epoch_key("run", 1).startswith(layout.epoch_prefix("run"))
    assert layout.source_key("0" * 64).startswith(layout.SOURCE_PREFIX)


def test_a_run_whose_name_begins_like_another_does_not_share_its_prefixes() -> None:
    assert not layout.manifest_key("digits-2", 1, 1).startswith(layout.commit_prefix("digits"))
    assert not layout.epoch_key("digits-2", 1).startswith(layout.epoch_prefix("digits"))
