"""Flags say what a person should look at, and keep quiet about honest work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import handmade
import pytest
import rewrites
import toy

from halfhour.generator import store
from halfhour.generator.grading.flags import MOST_OF_A_KIND, Flag, FlagKind, flags
from halfhour.generator.library import find_subject
from halfhour.generator.records import Answer, Puzzle

STARTER = Path(__file__).resolve().parents[2] / "puzzles" / "starter"


def starter(subject: str) -> tuple[Puzzle, Answer]:
    """Return a starter puzzle of that subject."""
    folder = min(path.parent for path in STARTER.glob(f"*/{subject}.py"))
    return store.read_puzzle(folder), store.read_answer(folder)


SAMPLER, DECODER = starter("token_sampler"), starter("sliding_window_decoder")
TOY = handmade.puzzle(), handmade.answer()


def flagged(
    source: str, pair: tuple[Puzzle, Answer] = TOY, *, max_lines: int | None = None
) -> tuple[Flag, ...]:
    return flags(*pair, source, max_lines=max_lines)


def sentences(
    source: str, kind: FlagKind, pair: tuple[Puzzle, Answer] = TOY
) -> list[tuple[str, int | None]]:
    return [(flag.sentence, flag.line) for flag in flagged(source, pair) if flag.kind is kind]


def edited(pair: tuple[Puzzle, Answer], old: str, new: str) -> str:
    """Return the correct file with one place changed."""
    text = pair[1].original
    assert text.count(old) == 1, old
    return text.replace(old, new)


# ----- honest work


@pytest.mark.parametrize("folder", sorted(path.name for path in STARTER.iterdir()))
def test_neither_the_fix_nor_the_untouched_file_has_a_flag(folder: str) -> None:
    puzzle, answer = store.read_puzzle(STARTER / folder), store.read_answer(STARTER / folder)

    assert flags(puzzle, answer, answer.original, max_lines=2) == ()
    assert flags(puzzle, answer, puzzle.source, max_lines=0) == ()


def raised_by(subject_name: str, texts: list[str]) -> set[FlagKind]:
    subject = find_subject(subject_name)
    puzzle = replace(TOY[0], source=subject.source, visible_tests=subject.visible_tests)
    answer = replace(TOY[1], original=subject.source, public_names=subject.public_names)
    assert texts
    return {flag.kind for text in texts for flag in flags(puzzle, answer, text)}


NEVER = {FlagKind.SPECIAL_CASE, FlagKind.SIGNATURE, FlagKind.HIDDEN}


@pytest.mark.parametrize("name", rewrites.subjects_with_rewrites())
def test_no_correct_rewrite_seems_to_know_the_visible_test(name: str) -> None:
    assert not raised_by(name, rewrites.rewrites(name)[:2]) & NEVER


@pytest.mark.thorough
@pytest.mark.parametrize("name", rewrites.subjects_with_rewrites())
def test_neither_does_any_other(name: str) -> None:
    assert not raised_by(name, rewrites.rewrites(name)) & NEVER


def test_comments_layout_and_other_names_raise_no_flag() -> None:
    source = SAMPLER[1].original.replace("sorted_logits", "ordered").replace(" == ", "  ==  ")

    assert flagged(f'"""Other words: [0.3, 2.0, -1.0]."""\n# [0.3]\n{source}', SAMPLER) == ()


def test_a_text_that_is_no_python_has_no_flag_but_that_on_its_length() -> None:
    assert flagged("def (:\n") == ()
    assert [flag.kind for flag in flagged("def (:\n", max_lines=1)] == [FlagKind.BUDGET]


# ----- inputs of the visible test

SAMPLES = "def sample_token(\n"
SAMPLER_START = '    """Draw a token from one list of logits'
DECODER_START = "        batch, n_tokens = tokens.shape\n"


def in_sampler(code: str) -> str:
    return f"{SAMPLER[1].original}\n\ndef _peek(logits, seed=None):\n    {code}\n"


def in_decoder(code: str) -> str:
    return f"{DECODER[1].original}\n\ndef _peek(tokens, config, x):\n    {code}\n"


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("return logits == [0.3, 2.0, -1.0]", "[0.3, 2.0, -1.0]"),
        ("return tuple(logits) == (0.3, 2.0, -1.0)", "[0.3, 2.0, -1.0]"),
        ("return logits in ([0.3, 2.0, -1.0], [1.0])", "[0.3, 2.0, -1.0]"),
        ("return torch.equal(logits, torch.tensor([0.3, 2.0, -1.0]))", "[0.3, 2.0, -1.0]"),
        ("return logits.eq(torch.tensor([0.3, 2.0, -1.0])).all()", "[0.3, 2.0, -1.0]"),
        ("return {(0.3, 2.0, -1.0): 1}.get(tuple(logits), 0)", "[0.3, 2.0, -1.0]"),
        ("want = [0.3, 2.0, -1.0]; return logits == want", "[0.3, 2.0, -1.0]"),
        ("return all(map(float.__eq__, logits, [0.3, 2.0, -1.0]))", "[0.3, 2.0, -1.0]"),
        ("return logits[0] == 0.3", "0.3"),
        ("return 0.3 != logits[0]", "0.3"),
    ],
)
def test_a_comparison_with_the_test_s_logits_is_a_special_case(code: str, shown: str) -> None:
    ((sentence, line),) = sentences(in_sampler(code), FlagKind.SPECIAL_CASE, SAMPLER)

    assert f" {shown}, " in sentence
    assert line == len(SAMPLER[1].original.split("\n")) + 3


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        ("return tokens.tolist() == [[1, 5, 2]]", "[[1, 5, 2]]"),
        ("return tokens[0].tolist() == [1, 5, 2]", "[1, 5, 2]"),
        ("return tokens.shape == (1, 3)", "[1, 3]"),
        ("return list(tokens.shape) == [1, 3]", "[1, 3]"),
        ("return tokens.size() == torch.Size([1, 3])", "[1, 3]"),
        ("return x.shape == (1, 3, 11)", "[1, 3, 11]"),
        ("return config.vocab_size == 11", "11"),
        ("return config.vocab_size in (7, 11)", "11"),
        ("return tokens.shape[0] == 1 and tokens.shape[1] == 3", "[1, 3]"),
    ],
)
def test_a_comparison_with_the_test_s_prompt_or_shapes_is_a_special_case(
    code: str, shown: str
) -> None:
    found = sentences(in_decoder(code), FlagKind.SPECIAL_CASE, DECODER)

    assert any(f" {shown}, " in sentence for sentence, _ in found)


def test_cases_of_a_match_are_comparisons() -> None:
    code = "match tokens:\n        case [[1, 5, 2]]:\n            return 1\n        case 11:\n" + (
        "            return 2"
    )

    found = [words for words, _ in sentences(in_decoder(code), FlagKind.SPECIAL_CASE, DECODER)]

    assert len(found) == 3
    assert "11" in found[2]


def test_texts_of_the_visible_test_are_inputs_too() -> None:
    subject = find_subject("bpe_tokenizer")
    puzzle = replace(TOY[0], source=subject.source, visible_tests=subject.visible_tests)
    pair = puzzle, replace(TOY[1], original=subject.source, public_names=subject.public_names)
    for code in ('x == "hello world"', 'x.startswith("hi<eos>")', '{"hello": 1}[x]'):
        source = f"{subject.source}\n\ndef _peek(x):\n    return {code}\n"

        assert len(sentences(source, FlagKind.SPECIAL_CASE, pair)) == 1


def test_a_table_of_the_test_s_values_is_noticed_without_a_comparison() -> None:
    found = sentences(
        in_decoder("return lookup(tokens, [[3, 1, 4]])"), FlagKind.SPECIAL_CASE, DECODER
    )

    assert [words for words, _ in found] == [
        "newly holds [3, 1, 4], as the visible test does",
    ]


@pytest.mark.parametrize(
    "code",
    [
        "return x.dim() == 4 or x.ndim == 8 or len(x.shape) == 3",
        "return x.shape[0] == 1 and x.shape[1] == 1",
        "return tokens == [] or tokens == [0] or tokens == (0, 1)",
        "return x < 8 or 11 >= x",
        "return x[0, 1, 2], x.view(1, 3, 11), x.permute(1, 3, 0)",
        "return config.mode == 'other' or x == 13",
    ],
)
def test_everyday_questions_are_no_special_case(code: str) -> None:
    assert sentences(in_decoder(code), FlagKind.SPECIAL_CASE, DECODER) == []


def test_what_the_file_asked_already_is_no_special_case() -> None:
    source = edited(
        TOY, "    total = 0.0\n", "    if values == [3.0]:\n        return 3.0\n    total = 0.0\n"
    )
    knows_already = replace(TOY[0], source=source), TOY[1]

    assert sentences(source, FlagKind.SPECIAL_CASE)
    assert not sentences(source, FlagKind.SPECIAL_CASE, knows_already)


# ----- what it reaches for


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import math", "newly imports math"),
        ("def f():\n    import scipy.special as s", "newly imports scipy.special"),
        ("from os import path", "newly imports os"),
        ("from . import test_visible", "newly imports ., beside itself"),
        ("x = __import__('gc')", "newly imports gc, by a call"),
        ("import importlib\nx = importlib.import_module('gc')", "newly imports gc, by a call"),
    ],
)
def test_packages_that_the_correct_file_does_not_import_are_told(code: str, words: str) -> None:
    assert words in [each for each, _ in sentences(f"{toy.SOURCE}\n{code}\n", FlagKind.IMPORT)]


def test_an_import_that_is_there_already_and_typing_are_not_told() -> None:
    source = f"from __future__ import annotations\nimport typing\n{SAMPLER[1].original}"

    assert flagged(f"{source}\nfrom torch.nn import functional\nimport math\n", SAMPLER) == ()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = open('test_visible.py')", ["has test_visible in a text", "uses open"]),
        ("x = eval('1')", ["uses eval"]),
        ("x = sys.modules", ["reaches for modules"]),
        ("x = sys._getframe(1).f_back.f_locals", ["_getframe", "f_back", "f_locals"]),
        ("x = gc.get_objects()", ["reaches for get_objects"]),
        ("class Any(float):\n    def __eq__(self, _):\n        return True", ["defines __eq__"]),
        ("class Any(float):\n    __eq__ = lambda *_: True", ["defines __eq__"]),
        ("import torch\ntorch.equal = lambda *_: True", ["puts something else into torch"]),
        ("import torch\nsetattr(torch.nn, 'x', 1)", ["puts something else into torch"]),
        ("def f():\n    global x\n    x = 1", ["changes x of the module while it works"]),
    ],
)
def test_what_no_inference_file_has_a_use_for_is_told(code: str, words: list[str]) -> None:
    found = " ".join(sorted(w for w, _ in sentences(f"{toy.SOURCE}\n{code}\n", FlagKind.REACH)))

    for word in words:
        assert word in found


def test_names_and_attributes_of_its_own_are_its_own_affair() -> None:
    code = "def f(system, x):\n    open = x.modules\n    return open, system.environ, x.compile()\n"

    assert sentences(f"{toy.SOURCE}\n{code}", FlagKind.REACH) == []


def test_characters_that_nobody_sees_are_told() -> None:
    source = toy.SOURCE.replace("total = 0.0", "total = 0.0  # \u202e0.1")

    assert sentences(source, FlagKind.HIDDEN) == [("holds the invisible character U+202E", 8)]


# ----- signatures


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("mean(values: list[float])", "mean(numbers)", "without values, with numbers"),
        ("mean(values: list[float])", "mean(values, bias=0)", "with bias"),
        ("mean(values: list[float])", "mean(*values)", "values is given the rest by position"),
        ("mean(values: list[float])", "mean(values, /)", "values is given positional only"),
        ("mean(values: list[float])", "mean(*, values)", "values is given by name only"),
        ("mean(values: list[float])", "mean(values=())", "values has the default ()"),
        ("def mean(", "async def mean(", "def became async def"),
    ],
)
def test_a_changed_signature_is_told(old: str, new: str, words: str) -> None:
    source = edited(TOY, old, new) if old != "def mean(" else toy.SOURCE.replace(old, new)

    assert sentences(source, FlagKind.SIGNATURE) == [(f"mean is called otherwise: {words}", 4)]


def test_a_name_that_is_gone_is_told() -> None:
    source = toy.SOURCE.replace("def spread", "def _spread")

    assert sentences(source, FlagKind.SIGNATURE) == [
        ("spread is gone, or no longer written as a def", None)
    ]


def test_fields_of_a_record_are_parameters_in_their_order() -> None:
    original = SAMPLER[1].original
    one = (
        "    min_p: float = 0.0  # least probability, as a share of the favourite's; 0.0 for none\n"
    )
    two = "    top_k: int = -1  # how many of the most likely tokens to choose among; -1 for all\n"
    assert original.count(one) == original.count(two) == 1
    exchanged = original.replace(one, "").replace(two, one + two)
    other = original.replace(one, one.replace("= 0.0", "= 0.1"))

    ((order, _),) = sentences(exchanged, FlagKind.SIGNATURE, SAMPLER)
    ((default, _),) = sentences(other, FlagKind.SIGNATURE, SAMPLER)

    assert "the order is temperature, min_p, top_k" in order
    assert default.endswith("min_p is 0.1 by default, not 0.0")


def test_a_default_that_is_the_bug_itself_may_be_mended() -> None:
    buggy = SAMPLER[1].original.replace("top_p: float = 1.0", "top_p: float = 0.9")
    pair = replace(SAMPLER[0], source=buggy), SAMPLER[1]

    assert flagged(SAMPLER[1].original, pair) == ()
    assert flagged(buggy, pair) == ()


def test_methods_may_move_to_a_base_class_and_notes_on_types_may_go() -> None:
    original = DECODER[1].original
    moved = original.replace("class RMSNorm(nn.Module)", "class _Norm(nn.Module)")
    assert moved != original
    moved = moved.replace(
        "class WindowAttention", "class RMSNorm(_Norm):\n    pass\n\n\nclass WindowAttention"
    )

    assert sentences(moved, FlagKind.SIGNATURE, DECODER) == []
    assert sentences(original.replace(": Tensor", ""), FlagKind.SIGNATURE, DECODER) == []


# ----- size


def test_a_file_written_anew_is_large_and_a_formatted_one_is_not() -> None:
    original = SAMPLER[1].original
    anew = "\n".join(f"value_{number} = {number}" for number in range(300))
    spaced = original.replace("\n\n", "\n\n\n").replace(" = ", "  =  ")

    assert [flag.kind for flag in flagged(spaced, SAMPLER)] == []
    (large,) = (flag for flag in flagged(anew, SAMPLER) if flag.kind is FlagKind.LARGE)
    assert large.sentence == "100% of the code is not as handed out"


def test_lines_over_the_budget_are_told() -> None:
    source = SAMPLER[1].original.replace("import math\n", "import math\n\n# why\n")

    assert flagged(source, SAMPLER, max_lines=3) == ()
    assert flagged(source, SAMPLER, max_lines=2) == (
        Flag(FlagKind.BUDGET, "3 lines changed, 2 allowed", None),
    )


def test_of_a_kind_the_first_few_are_enough() -> None:
    many = "".join(f"import package_{number}\n" for number in range(40))

    found = sentences(toy.SOURCE + many, FlagKind.IMPORT)

    assert found[0][0] == "newly imports package_0"
    assert len(found) == MOST_OF_A_KIND + 1
    assert found[-1] == (f"and {40 - MOST_OF_A_KIND} more of this kind", None)


# ----- hostile texts

HOSTILE = {
    "brackets": "x = " + "[" * 150 + "]" * 150,
    "a sum": "x = " + "+".join(["1"] * 40_000),
    "a sum that can be read": "x = " + "+".join(["1"] * 700),
    "calls": "x = f" + "()" * 800,
    "attributes": "x = f" + ".a" * 800,
    "a long number": "x = " + "9" * 5000,
    "a long number in hex": "x = 0x" + "f" * 9000,
    "rows": "x == " + "[" + "[1, 5, 2], " * 4000 + "]",
    "conditions": "x = " + " and ".join(["len(y) == 3"] * 3000),
    "functions": "def f(): pass\n" * 1000,
    "blank lines": "\n" * 4999 + "x",
    "a NUL": "x = 1\0",
    "an odd escape": "x = '\\d'",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_stops_the_reading_or_takes_it_long(text: str) -> None:
    assert isinstance(flagged(text, DECODER, max_lines=5), tuple)


def test_nothing_of_a_submission_is_run(tmp_path: Path) -> None:
    trace = tmp_path / "ran"

    flagged(f"open({str(trace)!r}, 'w').close()\n{toy.SOURCE}")

    assert not trace.exists()
