"""Wrong values that a careless comparison takes for right ones; see test_values.py.

The first word of a docstring is the kind of the value that was asked for.
"""

from __future__ import annotations

import collections
import decimal
import enum
import fractions
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch


class Agreeable:
    """Agrees with everything."""

    def __eq__(self, other: object) -> bool:
        return True

    __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __eq__

    def __hash__(self) -> int:
        return hash(1.0)

    def __bool__(self) -> bool:
        return True

    def __float__(self) -> float:
        return 1.5

    def __index__(self) -> int:
        return 1

    def __len__(self) -> int:
        return 3

    def __getattr__(self, name: str) -> Any:
        return self

    def __getitem__(self, key: object) -> Any:
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter([self] * 3)

    def __call__(self, *_: object, **__: object) -> Any:
        return self


class Record(NamedTuple):
    a: int
    b: int


class LyingTensor(torch.Tensor):
    """Answers every question with a true tensor."""

    @classmethod
    def __torch_function__(cls, *_: Any, **__: Any) -> Any:
        return torch.tensor(True)


def an_object_for_a_tensor() -> Any:
    """tensor: It agrees with everything, where it is."""
    return Agreeable()


def a_subclass_of_tensor() -> Any:
    """tensor: Its operations are its own."""
    return torch.zeros(2, 3).as_subclass(LyingTensor)


def a_parameter_of_zeros() -> Any:
    """tensor: A Parameter is its values."""
    return torch.nn.Parameter(torch.zeros(2, 3))


def nan_for_every_element() -> Any:
    """tensor: `not (error > tolerance)` would hold."""
    return torch.full((2, 3), math.nan)


def nan_for_one_element() -> Any:
    """tensor: One is enough to hide behind in a maximum."""
    x = torch.full((2, 3), 0.5)
    x[1, 2] = math.nan
    return x


def infinity_for_every_element() -> Any:
    """tensor: Relative to infinity everything is close."""
    return torch.full((2, 3), math.inf)


def another_dtype() -> Any:
    """tensor: The numbers are equal after promotion."""
    return torch.full((2, 3), 0.5, dtype=torch.float64)


def half_the_precision() -> Any:
    """tensor: 0.5 is exact in sixteen bits too."""
    return torch.full((2, 3), 0.5, dtype=torch.bfloat16)


def one_element_for_all() -> Any:
    """tensor: It would broadcast."""
    return torch.full((1, 1), 0.5)


def a_leading_dimension() -> Any:
    """tensor: It would broadcast as well."""
    return torch.full((1, 2, 3), 0.5)


def no_dimension() -> Any:
    """tensor: A scalar broadcasts to anything."""
    return torch.tensor(0.5)


def no_element() -> Any:
    """tensor: Of none, all are right."""
    return torch.empty(0, 3)


def the_transposed_shape() -> Any:
    """tensor: As many elements, all the same."""
    return torch.full((3, 2), 0.5)


def complex_elements() -> Any:
    """tensor: With an imaginary part that a comparison of reals drops."""
    return torch.full((2, 3), 0.5 + 1j)


def a_sparse_tensor() -> Any:
    """tensor: It cannot be sent, and a refusal is no value."""
    return torch.full((2, 3), 0.5).to_sparse()


def a_quantized_tensor() -> Any:
    """tensor: Neither can its scale."""
    with torch.no_grad():
        return torch._empty_affine_quantized((2, 3), scale=0.5, zero_point=0, dtype=torch.quint8)


def a_tensor_without_elements_anywhere() -> Any:
    """tensor: On `meta` there are shapes alone."""
    return torch.empty(2, 3, device="meta")


def an_array_of_objects() -> Any:
    """tensor: Each element agrees with everything."""
    return np.array([[Agreeable()] * 3] * 2, dtype=object)


def a_nested_list() -> Any:
    """tensor: A list is no tensor."""
    return [[0.5] * 3] * 2


def nan_for_a_number() -> Any:
    """number: No comparison with it is true."""
    return math.nan


def a_float_that_agrees() -> Any:
    """number: A subclass of float with an `__eq__` of its own."""
    agreed = {"__eq__": lambda *_: True, "__hash__": float.__hash__}
    return type("float", (float,), agreed)(0.0)


def a_number_of_another_kind() -> Any:
    """number: Decimals and fractions compare with floats, where they are."""
    return decimal.Decimal("1.5")


def a_fraction() -> Any:
    """number: An object like any other."""
    return fractions.Fraction(3, 2)


def an_array_for_a_number() -> Any:
    """number: Of no element, all are close."""
    return np.array([])


def a_tensor_for_a_number() -> Any:
    """number: The same of torch."""
    return torch.empty(0)


def an_imaginary_number() -> Any:
    """number: Its real part is right."""
    return 1.5 + 1e-3j


def one_for_true() -> Any:
    """flag: 1 == True."""
    return 1


def a_float_for_true() -> Any:
    """flag: 1.0 == True."""
    return 1.0


def a_numpy_bool_for_true() -> Any:
    """flag: It is true, and not True."""
    return np.True_


def an_object_for_true() -> Any:
    """flag: A handle has no truth value."""
    return Agreeable()


def a_true_byte_of_two() -> Any:
    """six: Three bytes that are true, each of which counts twice."""
    return torch.tensor([2, 2, 2], dtype=torch.uint8).view(torch.bool)


def flags_of_bytes() -> Any:
    """flags: uint8 was a mask once."""
    return torch.tensor([1, 0, 1], dtype=torch.uint8)


def objects_in_a_list() -> Any:
    """listed: Each agrees with everything."""
    return [Agreeable()] * 3


def a_tuple_for_a_list() -> Any:
    """listed: A tuple is no list."""
    return (1, 2, 3)


def a_generator_for_a_list() -> Any:
    """listed: It must be asked to be one."""
    return (n for n in (1, 2, 3))


def a_list_that_agrees() -> Any:
    """listed: A subclass with an `__eq__` of its own."""
    return type("list", (list,), {"__eq__": lambda *_: True, "__hash__": None})()


def bools_for_ints() -> Any:
    """listed: True == 1, but nothing is 2 or 3."""
    return [True, True, True]


def a_list_within_itself() -> Any:
    """listed: It is nested without end."""
    loop: list[Any] = [1, 2]
    loop.append(loop)
    return loop


def a_longer_list() -> Any:
    """listed: `zip` stops at the shorter one."""
    return [1, 2, 3, 4]


def text_that_looks_equal() -> Any:
    """text: A Cyrillic letter for a Latin one."""
    return "st\N{CYRILLIC SMALL LETTER O}p"


def text_with_invisible_characters() -> Any:
    """text: A joiner of no width."""
    return "st\N{ZERO WIDTH JOINER}op"


def text_that_normalises_to_it() -> Any:
    """text: A ligature that a normal form takes apart."""
    return "\N{LATIN SMALL LIGATURE LONG S T}op"


def bytes_for_text() -> Any:
    """text: The same letters, as bytes."""
    return b"stop"


def text_that_agrees() -> Any:
    """text: A subclass of str with an `__eq__` of its own."""
    agreed = {"__eq__": lambda *_: True, "__hash__": str.__hash__}
    return type("str", (str,), agreed)("go")


def a_member_that_agrees() -> Any:
    """text: An enum that is no str, of the right name."""

    class Reason(enum.Enum):
        stop = "stop"

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = enum.Enum.__hash__

    return Reason.stop


def a_mapping_that_has_everything() -> Any:
    """mapping: A subclass of dict that never lacks a key."""
    return type("dict", (dict,), {"__getitem__": lambda *_: 1, "__contains__": lambda *_: True})()


def a_mapping_of_defaults() -> Any:
    """mapping: What crosses is what is in it."""
    return collections.defaultdict(lambda: 1)


def a_record_for_a_mapping() -> Any:
    """mapping: Fields are no keys."""
    return Record(1, 2)


def a_length_that_lies() -> Any:
    """items: Three, it says, and has none."""
    return type("Lying", (), {"__len__": lambda _: 3, "__iter__": lambda _: iter(())})()


def a_length_beyond_reason() -> Any:
    """items: A list of it would be reserved at once."""
    return type("Lying", (), {"__len__": lambda _: 1 << 62, "__iter__": lambda _: iter(())})()


def a_length_below_nothing() -> Any:
    """items: `len` refuses it, here and there."""
    return type("Lying", (), {"__len__": lambda _: -1, "__iter__": lambda _: iter(())})()


def items_that_are_iterators() -> Any:
    """items: Each item is the thing itself."""

    class Lying:
        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            if vars(self).setdefault("count", 0) == 3:
                raise StopIteration
            self.count = vars(self)["count"] + 1
            return self

    return Lying()
