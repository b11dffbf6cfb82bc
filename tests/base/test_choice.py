from __future__ import annotations

import pytest

from lgn_lightning.base.choice import check_choice, make_choice


class Base:
    pass


class Kind(Base):
    pass


def test_a_word_or_an_instance_gives_an_object() -> None:
    given = Base()
    assert make_choice("kind", given, Base, {"kind": Kind}) is given
    assert type(make_choice("kind", "kind", Base, {"kind": Kind})) is Kind


def test_other_words_are_refused_with_those_that_there_are() -> None:
    check_choice("mode", None, (None, "fast"))
    with pytest.raises(ValueError, match=r"mode='slow'.* None, 'fast'"):
        check_choice("mode", "slow", (None, "fast"))
    with pytest.raises(ValueError, match=r"kind='other'.* 'kind' or a Base"):
        make_choice("kind", "other", Base, {"kind": Kind})
