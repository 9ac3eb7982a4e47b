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


def json_name(field):
    first, *rest = field.rsplit(".", 1)[1].split("_")
    return first + "".join(word.capitalize() for word in rest)


def read_as_json(name, field):
    """ProxyConfig is JSON where it comes from annotations: there a field is read by its name."""
    return f'"{json_name(field)}"' in (fields_used.ROOT / name).read_text()


def covered(field, table, wanted):
    """The fields that a row is about: one, or all of a message that have no row of their own."""
    if not field.endswith(".*"):
        return [field] if field in wanted else []
    return [f for f in wanted if f.rpartition(".")[0] == field[:-2] and f not in table]


def problems(table, wanted, uses):
    """One line for each field that is neither used nor excused, and each row that is not true."""
    found = [f"{field}: no row" for field in wanted if field not in table and field.rpartition(".")[0] + ".*" not in table]
    for field, (state, text) in table.items():
        fields = covered(field, table, wanted)
        if not fields:
            found.append(f"{field}: no such official field of {', '.join(fields_used.KINDS)}")
        elif state == "used":
            found += [f"{field}: {name} does not read it" for name in text.split(",") if field not in uses.get(name, ())]
        elif state == "by name":
            found += [f"{field}: {name} does not name it" for name in text.split(",") if not read_as_json(name, field)]
        elif state != "not yet":
            found.append(f"{field}: \"{state}\" is none of \"used\", \"by name\", \"not yet\"")
        elif len(text) < REASON_MIN:
            found.append(f"{field}: not yet, but why?")
        else:
            found += [f"{f}: {name} reads it, so it is used" for f in fields for name in uses
                      if f in uses[name] and name.startswith(("pilot/features", "pilot/translate"))]
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
    table[timeout] = ("by name", "agent/metadata.c")
    assert problems(table, wanted, uses) == [f"{timeout}: agent/metadata.c does not name it"]
    table[timeout] = ("used", "pilot/features/timeout.c")
    headers = "istio.mesh.v1alpha1.Topology.*"
    del table["istio.mesh.v1alpha1.Topology.proxy_protocol"]
    table[headers] = ("not yet", "a reason that is long enough, but is not true")
    assert problems(table, wanted, uses) == [
        "istio.mesh.v1alpha1.Topology.proxy_protocol: pilot/translate/connection_manager.c reads it, so it is used"]
    table["istio.mesh.v1alpha1.Topology.proxy_protocol"] = ("used", "pilot/translate/connection_manager.c")
    del table[headers]
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
