"""Every official field of the Istio kinds is used by a source file, or the table says why it is not yet (rows P01 to P66 as a whole)."""
import pytest

import descriptors
import fields_used

REASON_MIN = 20


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    tool = descriptors.build_descdump(tmp_path_factory.mktemp("descdump"))
    return fields_used.wanted(descriptors.official(tool))


@pytest.fixture(scope="module")
def uses(tmp_path_factory):
    every = fields_used.Uses(tmp_path_factory.mktemp("include"))
    return every.of_all(every.sources())


def problems(table, wanted, uses):
    """One line for each field that is neither used nor excused, and each row that is not true."""
    found = [f"{field}: no row" for field in wanted if field not in table]
    for field, (state, text) in table.items():
        if field not in wanted:
            found.append(f"{field}: no such official field of {', '.join(fields_used.KINDS)}")
        elif state == "used":
            found += [f"{field}: {name} does not read it" for name in text.split(",") if field not in uses.get(name, ())]
        elif state != "not yet":
            found.append(f"{field}: \"{state}\" is neither \"used\" nor \"not yet\"")
        elif len(text) < REASON_MIN:
            found.append(f"{field}: not yet, but why?")
        else:
            found += [f"{field}: {name} reads it, so it is used" for name in uses
                      if field in uses[name] and name.startswith(("pilot/features", "pilot/translate"))]
    return found


def test_every_field_is_used_or_says_why_not(wanted, uses):
    assert len(wanted) > 100 and len(uses) > 50
    assert problems(fields_used.table(), wanted, uses) == []


def test_a_field_without_a_row_a_false_row_and_a_row_without_a_reason_are_found(wanted, uses):
    table = fields_used.table()
    timeout = "istio.networking.v1alpha3.HTTPRoute.timeout"
    del table[timeout]
    assert problems(table, wanted, uses) == [f"{timeout}: no row"]
    table[timeout] = ("used", "pilot/features/match.c")
    assert problems(table, wanted, uses) == [f"{timeout}: pilot/features/match.c does not read it"]
    table[timeout] = ("not yet", "later")
    assert problems(table, wanted, uses) == [f"{timeout}: not yet, but why?"]
    table[timeout] = ("not yet", "a reason that is long enough, but is not true")
    assert problems(table, wanted, uses) == [f"{timeout}: pilot/features/timeout.c reads it, so it is used"]
    table[timeout] = ("used", "pilot/features/timeout.c")
    table["istio.networking.v1alpha3.HTTPRoute.time_out"] = ("used", "pilot/features/timeout.c")
    assert problems(table, wanted, uses)[0].startswith("istio.networking.v1alpha3.HTTPRoute.time_out: no such official field")


def test_members_of_the_same_name_in_different_messages_are_told_apart(uses):
    assert "istio.networking.v1alpha3.HTTPRedirect.uri" in uses["pilot/features/redirect.c"]
    assert "istio.networking.v1alpha3.HTTPRewrite.uri" not in uses["pilot/features/redirect.c"]
    # Through a macro, in a oneof, and a name that looks like the case of a oneof.
    assert "istio.networking.v1alpha3.Headers.HeaderOperations.set" in uses["pilot/features/headers.c"]
    assert "istio.networking.v1alpha3.StringMatch.regex" in uses["pilot/features/match.c"]
    assert "istio.networking.v1alpha3.HTTPMatchRequest.ignore_uri_case" in uses["pilot/features/match.c"]


def test_the_table_is_sorted_as_the_documents_are(wanted):
    order = [field for field in wanted if field in fields_used.table()]
    assert [field for field in fields_used.table() if field in wanted] == order
