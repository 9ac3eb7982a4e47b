"""Objects of several cases at once: what each case makes must not spoil what another one makes. The choice is fixed by its number."""
import random

import pytest

import envoy_accept
from test_pilot import CASES, FOLDER, case_id, render, stem

NODES = ("sidecar.node.json", "sidecar/P62-without-capture.node.json")


def chosen(number):
    """(node, cases) of a combination: for every third one a gateway's."""
    pick = random.Random(number)
    gateway = [c for c in CASES if c.parent.name == "gateway" and stem(c) != "plain"]
    others = [c for c in CASES if c.parent.name not in ("gateway", "base")]
    if number % 3 == 0:
        return FOLDER / "gateway.node.json", pick.sample(gateway, pick.randint(2, 4)) + pick.sample(others, 2)
    return FOLDER / pick.choice(NODES), pick.sample(others, pick.randint(2, 5))


@pytest.mark.parametrize("number", range(18))
def test_a_real_envoy_accepts_cases_together(number):
    node, cases = chosen(number)
    rendered = render(node, FOLDER / "base.yaml", *cases)
    assert envoy_accept.accept(rendered, envoy_accept.envoy_path()) is None, [case_id(c) for c in cases]
