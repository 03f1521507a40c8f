"""The words after a number that are not its unit, because they change the number."""

from keyword import kwlist

# Words, singular, that change the number before them or combine it with what follows.
_SCALES = """
    hundred thousand million billion trillion grand lakh crore mil mln mio mm mn mill bil bln bn
    trn tn dozen score gross pair couple half halve quarter third fourth fifth sixth seventh eighth
    ninth tenth hundredth thousandth single double triple quadruple twice thrice doubled tripled
    quadrupled halved squared cubed factorial power root pi inf infinity nan pct permille
"""
_ONES = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen
"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
ONES, TENS = _ONES.split(), _TENS.split()
_OPERATIONS = """
    plus minus times multiplied divided over by into of to off less than mod modulo equal
"""
_PYTHON = " ".join(kwlist).lower()  # "5 and -3" is neither 2 nor Python's -3
NUMBER_WORDS = frozenset(" ".join((_SCALES, _ONES, _TENS)).split())
NOT_UNITS = NUMBER_WORDS | frozenset(f"{_OPERATIONS} {_PYTHON}".split())
