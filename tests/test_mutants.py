"""Check the faults that scripts/mutation_check.py tries."""

import pytest

from scripts.mutants import mutants

CASES = [
    ("a = b < c", {"a = (b <= c)", "pass"}),
    ("f(a and not b)", {"f((a or not b))", "f((a))", "f((not b))", "f(a and (b))", "pass"}),
    ("f(n + 1)", {"f((n - 1))", "f(n + 2)", "pass"}),
    ("f('é', a[1:])", {"f('XXé', a[1:])", "f('é', a[:])", "f('é', a[2:])", "pass"}),
    ("[x for x in y if z]", {"[x for x in y if True]", "[x for x in y if False]", "pass"}),
    ("f((*a, *b))", {"f(((*b,)))", "f(((*a,)))", "pass"}),
    ("for x in y: break", {"for x in y: continue", "for x in y: pass", "pass"}),
    ("def f(a: A = b()): a()", {"def f(a: A = None): a()", "def f(a: A = b()): pass"}),
    ("if min(x): y()", {"if True: y()", "if False: y()", "if max(x): y()", "if min(x): pass"}),
    ("def f(): return x", {"def f(): return None"}),
    ("assert a < b", set()),
    ("A = Literal['x']", {"pass"}),
]  # fmt: skip


@pytest.mark.parametrize(("source", "expected"), CASES)
def test_the_faults_of_one_line(source: str, expected: set[str]) -> None:
    assert set(mutants(source)) == expected
    assert set(mutants(source).values()) == {(1, f"{source} -> {new}") for new in expected}


def test_patterns_lose_one_character_and_remain_valid() -> None:
    source = 're.compile("[0]+ # x", re.VERBOSE)'
    new = [text.split('"""')[1] for text in mutants(source) if '"""' in text]
    assert new == ["0]+ # x", "[0] # x", "[0]+  x"]  # without the space it is the same


def test_changes_of_several_lines_are_shown_in_one() -> None:
    source = "x = [\n    1,\n]\ny = 2\n"
    assert mutants(source)["pass\ny = 2\n"] == (1, "x = [ 1, ] -> pass")
