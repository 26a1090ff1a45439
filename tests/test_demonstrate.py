"""A demonstration is a short script that prints different things beside the two files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import toy
from shop import remembering

from halfhour.generator import library
from halfhour.generator.cache import ProofCache
from halfhour.generator.certify import seeds
from halfhour.generator.demonstrate import Demonstrator
from halfhour.generator.demonstrate.observing import difference
from halfhour.generator.demonstrate.running import How, Shown
from halfhour.generator.plant import plant
from halfhour.generator.records import Demonstration, Mutant, Subject
from halfhour.generator.screen import Screen
from halfhour.mutators import find_mutator

SEEDS = (11, 12)

COUNTER = toy.subject(
    source='''"""Counts words, and tells which came most."""


class Counter:
    """Counts."""

    def __init__(self) -> None:
        self.total = 0
        self._counts: dict[str, int] = {}

    def add(self, word: str, times: int = 1) -> None:
        """Count a word."""
        if times < 1:
            raise ValueError("times must be positive")
        self._counts[word] = self._counts.get(word, 0) + times
        self.total += times

    def most(self) -> str:
        """Return the word that came most."""
        return max(self._counts, key=self._counts.__getitem__)
''',
    visible='''import toy


def test_one_word() -> None:
    """One word comes most."""
    counter = toy.Counter()
    counter.add("a")
    assert counter.most() == "a"
''',
    hidden='''import pytest


def test_most_frequent_word(subject):
    """The word that came most is told."""
    counter = subject.Counter()
    for word in ["tea", "milk", "tea", "sugar", "cake", "tea", "milk", "jam"]:
        counter.add(word)
    assert counter.most() == "tea"
    counter.add("jam", 7)
    assert counter.most() == "jam"


def test_total(subject):
    """The total is the number of words."""
    counter = subject.Counter()
    for word in ["tea", "milk", "tea"]:
        counter.add(word)
    counter.add("jam", 7)
    assert counter.total == 10


def test_times_are_positive(subject):
    """No word comes less than once."""
    with pytest.raises(ValueError):
        subject.Counter().add("tea", 0)
''',
)

TENSORS = toy.subject(
    source='''"""Attention weights, and a step of decoding."""

from collections.abc import Callable

import torch
from torch import Tensor


def weights(scores: Tensor) -> Tensor:
    """Return the softmax of scores [B, Q, K]."""
    return torch.softmax(scores, dim=-1)


def greedy(model: Callable[[Tensor], Tensor], prompt: Tensor, steps: int) -> list[int]:
    """Return the tokens that a model finds likeliest."""
    tokens = prompt
    for _ in range(steps):
        best = model(tokens)[-1].argmax()
        tokens = torch.cat([tokens, best[None]])
    return tokens[len(prompt) :].tolist()


def clipped(values: Tensor) -> Tensor:
    """Return the values, none above one."""
    return values.clamp(max=1.0)
''',
    visible='''import toy
import torch


def test_one_score() -> None:
    """One score takes all the weight."""
    assert toy.weights(torch.zeros(1, 1, 1)).item() == 1.0
''',
    hidden='''import torch


def test_weights_of_a_query_sum_to_one(subject, seed):
    """The weights of every query sum to one."""
    scores = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(seed))
    sums = subject.weights(scores).sum(-1)
    torch.testing.assert_close(sums, torch.ones(3, 4))


def test_greedy_follows_the_model(subject):
    """Every token is the likeliest after those before."""
    table = torch.eye(6).roll(1, dims=1)
    assert subject.greedy(lambda tokens: table[tokens], torch.tensor([2, 3]), 3) == [4, 5, 0]


def test_what_was_given_is_left_alone(subject):
    """Arguments are not written to."""
    values = torch.tensor([0.5, 2.0])
    before = values.clone()
    subject.clipped(values)
    assert not getattr(subject, "mutated", ()) and torch.equal(values, before)
''',
)


DEVICES = toy.subject(
    source='''"""Masks."""

import torch
from torch import Tensor


def causal(scores: Tensor) -> Tensor:
    """Hide later keys: scores [Q, K] -> [Q, K]."""
    n_queries, n_keys = scores.shape
    keys = torch.arange(n_keys, device=scores.device)
    queries = torch.arange(n_queries, device=scores.device)
    return scores.masked_fill(keys > queries[:, None], float("-inf"))


def positions(tokens: Tensor) -> Tensor:
    """Return the position of each token: tokens [N] -> [N]."""
    return torch.arange(len(tokens), device=tokens.device)
''',
    visible='''import toy
import torch


def test_one_key() -> None:
    """One key is seen."""
    assert toy.causal(torch.zeros(1, 1)).item() == 0.0
''',
    hidden='''import torch


def test_masks_are_made_where_the_scores_are(subject):
    """The default device has no influence."""
    with subject.accelerator():
        got = subject.causal(torch.zeros(3, 3))
    assert got.shape == (3, 3)


def test_positions_are_made_where_the_tokens_are(subject):
    """The default device has no influence."""
    tokens = torch.tensor([5, 6, 7])
    with subject.accelerator():
        got = subject.positions(tokens)
    assert got.device == tokens.device
''',
)

MODELS = toy.subject(
    source='''"""A layer, and the search for a continuation with a model that is handed over."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Gate(nn.Module):
    """A gated layer."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.zeros(dim))
        self.gate = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return what the gate lets through of x [N, D]."""
        return torch.sigmoid(x * self.gate) * (x * self.up)


def continued(model: Callable[[list[int]], Tensor], prompt: list[int], steps: int) -> list[int]:
    """Return the prompt with the tokens that a model finds likeliest."""
    tokens = list(prompt)
    while len(tokens) < len(prompt) + steps:
        tokens.append(int(model(tokens)[-1].argmax()))
    return tokens
''',
    visible='''import toy


def test_nothing() -> None:
    """No step, no token."""
    assert toy.continued(None, [1], 0) == [1]
''',
    hidden='''import torch


def test_the_gate_is_between_zero_and_one(subject):
    """A sigmoid of the gate's values scales the others."""
    gate = subject.Gate(6)
    with torch.no_grad():
        for weight in gate.parameters():
            weight.normal_()
    x = torch.randn(4, 6)
    want = torch.sigmoid(x * gate.gate) * (x * gate.up)
    torch.testing.assert_close(gate(x), want)


def test_every_token_is_the_likeliest(subject, seed):
    """Many tokens, each the likeliest after the one before."""
    table = torch.randn(5, 5, generator=torch.Generator().manual_seed(seed))
    tokens = subject.continued(lambda tokens: table[tokens], [1], 40)
    assert tokens[1:] == [int(table[token].argmax()) for token in tokens[:-1]]
''',
)

DRAWING = toy.subject(
    source='''"""Draws."""

import secrets


def drawn(low: int) -> int:
    """Return some number from the lowest one on."""
    return low + secrets.randbelow(100)


def tenfold(low: int) -> int:
    """Return ten times the number, whatever was drawn before."""
    drawn(low)
    return low * 10
''',
    visible='''import toy


def test_draw():
    """A number is drawn."""
    assert toy.drawn(1000) < 1100
''',
    hidden='''def test_no_draw_is_below(subject):
    """No number is below the lowest one."""
    assert subject.drawn(500) >= 500


def test_tenfold(subject):
    """Ten times five are fifty."""
    assert subject.tenfold(5) == 50
''',
)


@pytest.fixture(scope="module")
def demonstrator(screen: Demonstrator, tmp_path_factory: pytest.TempPathFactory) -> Demonstrator:
    return remembering(screen, ProofCache(tmp_path_factory.mktemp("proofs")))


def demonstrated(
    demonstrator: Demonstrator, subject: Subject, mutant: Mutant, *broken: str
) -> Demonstration:
    found = demonstrator.demonstration(subject, mutant.source, broken=broken, seeds=SEEDS)

    assert found is not None

    return found


def assert_printed(folder: Path, subject: Subject, mutant: Mutant, found: Demonstration) -> None:
    """The script prints beside either file what it is said to."""
    for source, expected in ((subject.source, found.correct), (mutant.source, found.buggy)):
        assert printed(folder, subject.file_name, source, found.script) == expected


def printed(folder: Path, file_name: str, source: str, script: str) -> str:
    """Run a script as a candidate would: in a process of its own, beside the file."""
    folder.mkdir(exist_ok=True)
    (folder / file_name).write_text(source, encoding="utf-8")
    (folder / "try.py").write_text(script, encoding="utf-8")
    command = [sys.executable, "-B", "try.py"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, check=True
    )
    return done.stdout.rstrip("\n")


def test_script_prints_what_it_says_beside_either_file(
    demonstrator: Demonstrator, tmp_path: Path
) -> None:
    mutant = toy.mutant("total / len(values)", "total / (len(values) + (len(values) > 1))")
    found = demonstrated(demonstrator, toy.subject(), mutant, "test_mean_is_sum_over_count")

    assert found.correct != found.buggy
    assert found.promise == "test_mean_is_sum_over_count"
    assert_printed(tmp_path / "puzzle", toy.subject(), mutant, found)


def test_inputs_are_shrunk(demonstrator: Demonstrator) -> None:
    """Of seven drawn numbers two plain ones are left."""
    mutant = toy.mutant("total / len(values)", "total / (len(values) + (len(values) > 1))")
    found = demonstrated(demonstrator, toy.subject(), mutant, "test_mean_is_sum_over_count")

    assert len([line for line in found.script.splitlines() if line]) <= 3
    assert len(re.findall(r"\d\.\d", found.script)) == 2
    assert not re.findall(r"\d\.\d\d", found.script)


def test_calls_that_are_not_needed_are_dropped(demonstrator: Demonstrator) -> None:
    """Of nine words four or fewer are enough to see which came most."""
    mutant = toy.mutant("max(self._counts", "min(self._counts", of=COUNTER)
    found = demonstrated(demonstrator, COUNTER, mutant, "test_most_frequent_word")

    lines = [line for line in found.script.splitlines() if line]
    assert lines[0] == "import toy"
    assert lines[1] == "counter = toy.Counter()"
    assert lines[-1] == "print(counter.most())"
    assert len(lines) <= 6


def test_state_is_shown_where_no_answer_differs(demonstrator: Demonstrator) -> None:
    mutant = toy.mutant("self.total += times", "self.total += 1", of=COUNTER)
    found = demonstrated(demonstrator, COUNTER, mutant, "test_total")

    assert found.script.endswith("print(counter.total)\n")
    assert int(found.correct) > int(found.buggy) == 1


@pytest.mark.parametrize(("correct", "other"), [("", "ab"), ("ab", "\n")])
def test_text_that_is_empty_is_shown_all_the_same(correct: str, other: str) -> None:
    assert difference(correct, other, "out") == "repr(out)"


def test_missing_refusal_is_shown(demonstrator: Demonstrator) -> None:
    mutant = toy.mutant("times < 1", "times < 0", of=COUNTER)
    found = demonstrated(demonstrator, COUNTER, mutant, "test_times_are_positive")

    assert (found.correct, found.buggy) == ("ValueError", "answers")


def test_tensors_keep_few_and_plain_numbers(demonstrator: Demonstrator, tmp_path: Path) -> None:
    mutant = toy.mutant("dim=-1", "dim=-2", of=TENSORS)
    found = demonstrated(demonstrator, TENSORS, mutant, "test_weights_of_a_query_sum_to_one")

    assert len(found.script) < 120
    assert found.correct.startswith("tensor(")
    assert_printed(tmp_path / "puzzle", TENSORS, mutant, found)


def test_functions_of_a_test_are_replayed(demonstrator: Demonstrator, tmp_path: Path) -> None:
    """A model that a test hands over answers in the script what it answered in the test."""
    mutant = toy.mutant("[-1].argmax()", "[0].argmax()", of=TENSORS)
    found = demonstrated(demonstrator, TENSORS, mutant, "test_greedy_follows_the_model")

    assert "def model(*args):" in found.script
    assert_printed(tmp_path / "puzzle", TENSORS, mutant, found)


def test_model_with_a_row_for_each_token_becomes_a_table(
    demonstrator: Demonstrator, tmp_path: Path
) -> None:
    """It answers whatever it is asked, so that a long test shrinks to a step or two."""
    mutant = toy.mutant("[-1].argmax()", "[0].argmax()", of=MODELS)
    found = demonstrated(demonstrator, MODELS, mutant, "test_every_token_is_the_likeliest")

    assert "return table[tokens]" in found.script
    assert_printed(tmp_path / "puzzle", MODELS, mutant, found)


@pytest.mark.parametrize(
    ("edit", "promise", "buggy"),
    [
        pytest.param(
            ("torch.arange(n_keys, device=scores.device)", "torch.arange(n_keys)"),
            "test_masks_are_made_where_the_scores_are",
            "RuntimeError",
            id="two devices meet",
        ),
        pytest.param(
            ("torch.arange(len(tokens), device=tokens.device)", "torch.arange(len(tokens))"),
            "test_positions_are_made_where_the_tokens_are",
            "meta",
            id="the answer is on the other",
        ),
    ],
)
def test_tensor_on_the_default_device_is_shown_without_a_gpu(
    demonstrator: Demonstrator, tmp_path: Path, edit: tuple[str, str], promise: str, buggy: str
) -> None:
    mutant = toy.mutant(*edit, of=DEVICES)
    found = demonstrated(demonstrator, DEVICES, mutant, promise)

    assert 'with torch.device("meta"):' in found.script
    assert found.buggy == buggy
    assert_printed(tmp_path / "puzzle", DEVICES, mutant, found)


def test_weights_that_a_test_fills_are_filled(demonstrator: Demonstrator, tmp_path: Path) -> None:
    """As they are made, all are zero and every layer answers zero."""
    mutant = toy.mutant("(x * self.gate)", "(x * self.up)", of=MODELS)
    found = demonstrated(demonstrator, MODELS, mutant, "test_the_gate_is_between_zero_and_one")

    assert "vector_to_parameters(" in found.script
    assert_printed(tmp_path / "puzzle", MODELS, mutant, found)


def test_argument_that_is_written_to_is_shown(demonstrator: Demonstrator) -> None:
    mutant = toy.mutant("values.clamp(", "values.clamp_(", of=TENSORS)
    found = demonstrated(demonstrator, TENSORS, mutant, "test_what_was_given_is_left_alone")

    assert found.script.endswith("print(values)\n")


def test_nothing_is_shown_where_the_files_do_the_same(demonstrator: Demonstrator) -> None:
    same = toy.mutant("total += value", "total = value + total").source
    broken = [promise.name for promise in toy.subject().promises]

    assert demonstrator.demonstration(toy.subject(), same, broken=broken, seeds=SEEDS) is None


def test_what_the_system_draws_shows_no_bug(demonstrator: Demonstrator) -> None:
    """It would print another number each time."""
    mutant = toy.mutant("low + ", "low - ", of=DRAWING)
    seeded = toy.mutant("low * ", "low + ", of=DRAWING)

    assert not demonstrator.demonstration(
        DRAWING, mutant.source, broken=["test_no_draw_is_below"], seeds=SEEDS
    )
    assert "tenfold" in demonstrated(demonstrator, DRAWING, seeded, "test_tenfold").script


def test_input_that_even_the_correct_file_has_no_answer_to_shows_little() -> None:
    """A reader would take NaN for the bug; a longer script is easier to understand."""
    short = Shown("print(toy.weights(x))\n", "tensor([nan])", "tensor([0.])", How.VALUE)
    long = Shown("x = 1\n\nprint(toy.weights(x))\n", "tensor([1.])", "tensor([nan])", How.VALUE)

    assert long.size < short.size


def test_rounding_is_no_difference(demonstrator: Demonstrator) -> None:
    near = toy.mutant("total / len(values)", "total / len(values) * (1 + 1e-5)").source
    broken = [promise.name for promise in toy.subject().promises]

    assert demonstrator.demonstration(toy.subject(), near, broken=broken, seeds=SEEDS) is None


def test_same_bug_gives_the_same_script(demonstrator: Demonstrator, tmp_path: Path) -> None:
    """In a process of its own, which remembers nothing."""
    mutant = toy.mutant("max(self._counts", "min(self._counts", of=COUNTER)
    found = demonstrated(demonstrator, COUNTER, mutant, "test_most_frequent_word")

    with Demonstrator(ProofCache(tmp_path)) as another:
        again = demonstrated(another, COUNTER, mutant, "test_most_frequent_word")

    assert again == found


def test_what_was_found_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second craft starts no process, whether there was something to show or not."""
    wrong = toy.mutant("total / len(values)", "total / (len(values) + (len(values) > 1))").source
    same = toy.mutant("total += value", "total = value + total").source
    cache = ProofCache(tmp_path)

    def both() -> list[Demonstration | None]:
        with Demonstrator(cache) as demonstrator:
            return [
                demonstrator.demonstration(
                    toy.subject(), text, broken=["test_mean_is_sum_over_count"], seeds=SEEDS
                )
                for text in (wrong, same)
            ]

    first = both()
    monkeypatch.delattr(Screen, "_started")
    monkeypatch.setattr(subprocess, "Popen", None)

    assert both() == first


def test_hanging_bug_is_given_up(demonstrator: Demonstrator) -> None:
    """A file that never answers has no script that prints something."""
    hanging = toy.mutant(
        "    total = 0.0\n", "    while len(values) > 2:\n        pass\n    total = 0.0\n"
    )

    found = demonstrator.demonstration(
        toy.subject(), hanging.source, broken=["test_mean_is_sum_over_count"], seeds=SEEDS
    )

    assert found is None


REAL = (
    ("attention_masks", "queries_take_the_first_positions", 0),
    ("batch_sampler", "softmax_where_the_logarithm_is_wanted", 0),
    ("block_manager", "page_is_counted_from_the_chunk", 1),
    ("token_sampler", "nucleus_summed_in_vocabulary_order", 0),
    ("token_sampler", "departed_entry_stays_in_the_table", 1),
    ("streaming_detokenizer", "held_part_is_handed_out_and_kept", 2),
    ("batch_sampler", "logits_are_drawn_from_like_probabilities", 0),
)
BROKEN = {
    "departed_entry_stays_in_the_table": [
        "test_requests_that_leave_or_join_do_not_disturb_the_others"
    ],
    "logits_are_drawn_from_like_probabilities": [
        "test_a_new_request_finds_no_trace_of_earlier_ones",
        "test_all_settings_of_a_request_act_together",
        "test_default_settings_leave_the_model_as_it_is",
        "test_greedy_requests_take_the_best_token",
    ],
}
"""Where a test would take long to get there through promises that the bug does not break."""


@pytest.mark.parametrize(
    ("name", "mutator", "site"),
    [REAL[0], *(pytest.param(*real, marks=pytest.mark.thorough) for real in REAL[1:])],
    ids=[f"{n}-{m}" for n, m, _ in REAL],
)
def test_real_bugs_show_themselves_in_a_process_of_their_own(
    demonstrator: Demonstrator, tmp_path: Path, name: str, mutator: str, site: int
) -> None:
    subject = library.find_subject(name)
    mutant = next(m for m in plant(subject, [find_mutator(mutator)]) if m.site == site)
    promises = [promise.name for promise in subject.promises]

    found = demonstrator.demonstration(
        subject, mutant.source, broken=BROKEN.get(mutator, promises), seeds=seeds(subject)
    )

    assert found is not None
    assert found.correct != found.buggy
    assert_printed(tmp_path / "puzzle", subject, mutant, found)
